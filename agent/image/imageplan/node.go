package imageplan

import (
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// Login is what can be logged in with at one place, as credential plugins and login files give it.
type Login struct {
	// Place is a registry or a part of one, with * for parts of its name: "*.example.com/team".
	Place string
	Auth  Auth
}

// Matches reports whether a place is that of an image; false for what is no place or no image.
func Matches(place, image string) bool {
	name, err := Parse(image)
	if err != nil {
		return false
	}
	e, err := parseEntry(place, login{})
	return err == nil && e.matches(name)
}

// Registry is the registry of an image; empty for what is no image.
func Registry(image string) string {
	name, err := Parse(image)
	if err != nil {
		return ""
	}
	return name.Registry
}

// Choose gives the logins that are for an image, the one for the longest place first.
func Choose(logins []Login, image string) []Auth {
	var found []Login
	for _, l := range logins {
		if Matches(l.Place, image) {
			found = append(found, l)
		}
	}
	slices.SortStableFunc(found, func(a, b Login) int { return len(b.Place) - len(a.Place) })
	var auths []Auth
	for _, l := range found {
		auths = append(auths, l.Auth)
	}
	return auths
}

// ReadLogins reads the login file of a node, config.json as "docker login" writes it. The error never
// holds any of its content.
func ReadLogins(file []byte) ([]Login, error) {
	entries, err := read(&model.Config{Data: map[string][]byte{corev1.DockerConfigJsonKey: file}})
	if len(entries) == 0 && err != nil {
		return nil, errors.New("it is not a login file: " + err.Error())
	}
	var all []Login
	for _, e := range entries {
		place := e.host
		if e.port != "" {
			place += ":" + e.port
		}
		if e.path != "" {
			place += "/" + e.path
		}
		all = append(all, Login{Place: place, Auth: e.auth})
	}
	return all, err
}
