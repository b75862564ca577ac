package imageplan

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// Auth is one way to log in to a registry. It has no String on purpose: it is never printed.
type Auth struct {
	Username, Password string
}

// Access is what a pod can log in with to pull one image.
type Access struct {
	// Auths to try in this order; empty means without logging in.
	Auths []Auth
	// Key tells these credentials from others without telling what they are:
	// the names and versions of the secrets they come from.
	Key string
	// Wait: a secret has not been read yet.
	Wait bool
	// Warnings are about secrets that can't be used, for the user.
	Warnings []string
}

// Credentials gives what the pull secrets of a pod offer for an image.
func Credentials(pod *corev1.Pod, image string, config func(model.ConfigKey) (*model.Config, bool)) Access {
	var a Access
	name, err := Parse(image)
	if err != nil {
		return a
	}
	var found []entry
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" {
			continue
		}
		key := model.ConfigKey{Kind: model.Secret, Key: model.Key{Namespace: pod.Namespace, Name: ref.Name}}
		secret, known := config(key)
		if !known {
			a.Wait = true
			continue
		}
		if secret.Missing {
			a.Warnings = append(a.Warnings, fmt.Sprintf("image pull secret %q not found", ref.Name))
			continue
		}
		entries, err := read(secret)
		if err != nil {
			a.Warnings = append(a.Warnings, fmt.Sprintf("image pull secret %q: %v", ref.Name, err))
		}
		for _, e := range entries {
			if e.matches(name) {
				e.from = ref.Name + "@" + secret.ResourceVersion
				found = append(found, e)
			}
		}
	}
	// The longest place first, for it says most; among equals the order of the pod's secrets.
	slices.SortStableFunc(found, func(x, y entry) int { return len(y.place()) - len(x.place()) })
	var from []string
	for _, e := range found {
		a.Auths = append(a.Auths, e.auth)
		from = append(from, e.from)
	}
	if len(from) > 0 {
		a.Key = pod.Namespace + "/" + strings.Join(slices.Compact(from), ",")
	}
	return a
}

// entry is one line of a secret.
type entry struct {
	// host may have * in its parts; port is empty for none; path is a prefix that ends at a slash or at the end.
	host, port, path string
	auth             Auth
	from             string
}

func (e entry) place() string { return e.host + e.port + e.path }

// matches reports whether the entry is for the registry and repository of an image.
func (e entry) matches(n Name) bool {
	registry := url.URL{Host: n.Registry}
	if e.port != registry.Port() {
		return false
	}
	if e.path != "" && n.Repository != e.path && !strings.HasPrefix(n.Repository, e.path+"/") {
		return false
	}
	if n.Registry == defaultRegistry && e.host == "index.docker.io" {
		return true
	}
	want, have := strings.Split(e.host, "."), strings.Split(registry.Hostname(), ".")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		// path.Match and not more: a star stands for one part of the name.
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// login is how both forms of secrets write an Auth.
type login struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

// read takes a secret apart, sorted by place so that the order is always the
// same. The error never holds any of its content.
func read(secret *model.Config) ([]entry, error) {
	var logins map[string]login
	var err error
	if raw, ok := secret.Data[corev1.DockerConfigJsonKey]; ok {
		var c struct {
			Auths map[string]login `json:"auths"`
		}
		err, logins = json.Unmarshal(raw, &c), c.Auths
	} else if raw, ok := secret.Data[corev1.DockerConfigKey]; ok {
		err = json.Unmarshal(raw, &logins)
	} else {
		return nil, fmt.Errorf("it has neither %s nor %s", corev1.DockerConfigJsonKey, corev1.DockerConfigKey)
	}
	if err != nil {
		return nil, errors.New("it is not valid JSON of that form")
	}
	var out []entry
	var problems error
	for where, l := range logins {
		e, err := parseEntry(where, l)
		if err != nil {
			problems = errors.Join(problems, fmt.Errorf("entry %q: %w", where, err))
			continue
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.place(), b.place()) })
	return out, problems
}

func parseEntry(where string, l login) (entry, error) {
	if !strings.HasPrefix(where, "https://") && !strings.HasPrefix(where, "http://") {
		where = "https://" + where
	}
	u, err := url.Parse(where)
	if err != nil {
		return entry{}, errors.New("not the place of a registry")
	}
	e := entry{auth: Auth{l.Username, l.Password}}
	e.host, e.port, e.path = u.Hostname(), u.Port(), u.Path
	// Old clients wrote the API's version where others write a path.
	for _, version := range []string{"/v1", "/v2"} {
		if rest, ok := strings.CutPrefix(e.path, version); ok && (rest == "" || rest[0] == '/') {
			e.path = rest
			break
		}
	}
	e.path = strings.Trim(e.path, "/")
	if l.Auth == "" {
		return e, nil
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(l.Auth), "="))
	user, password, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return entry{}, errors.New("field auth is not base64 of user:password")
	}
	e.auth = Auth{user, password}
	return e, nil
}
