package imageplan

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
)

// secrets makes pull secrets of "place=user" entries; the password is pw- and the user.
func secrets(entries map[string][]string) func(model.ConfigKey) (*model.Config, bool) {
	return func(k model.ConfigKey) (*model.Config, bool) {
		if k.Kind != model.Secret || k.Key.Namespace != "ns" {
			return nil, false
		}
		list, ok := entries[k.Key.Name]
		if !ok {
			return nil, false
		}
		c := &model.Config{ConfigKey: k, ResourceVersion: "7", Data: map[string][]byte{}}
		var parts []string
		for _, e := range list {
			place, user, _ := strings.Cut(e, "=")
			auth := base64.StdEncoding.EncodeToString([]byte(user + ":pw-" + user))
			parts = append(parts, fmt.Sprintf(`%q: {"auth": %q}`, place, auth))
		}
		switch text := "{" + strings.Join(parts, ",") + "}"; {
		case list == nil:
			c.Missing = true
		case strings.HasPrefix(k.Key.Name, "old"):
			c.Data[corev1.DockerConfigKey] = []byte(text)
		default:
			c.Data[corev1.DockerConfigJsonKey] = []byte(`{"auths": ` + text + `}`)
		}
		return c, true
	}
}

func access(image string, names []string, entries map[string][]string) Access {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}}
	for _, n := range names {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: n})
	}
	return Credentials(pod, image, secrets(entries))
}

func TestCredentialsByPlace(t *testing.T) {
	for _, c := range []struct {
		image, entry string
		want         bool
	}{
		{"example.com/a/b", "example.com", true},
		{"example.com/a/b", "https://example.com", true},
		{"example.com/a/b", "https://example.com/v1/", true},
		{"example.com/a/b", "https://example.com/v2/a", true},
		{"example.com/a/b", "example.com/a", true},
		{"example.com/a/b", "example.com/a/", true},
		{"example.com/a/b", "example.com/a/b", true},
		{"example.com/a/b", "example.com/a/bc", false},
		{"example.com/ab/c", "example.com/a", false}, // another's path that begins alike
		{"example.com/a/b", "other.example.com", false},
		{"evil-example.com/a", "example.com", false},
		{"example.com.evil.org/a", "example.com", false},
		{"r1.example.com/a", "*.example.com", true},
		{"a.b.example.com/a", "*.example.com", false},
		{"example.com:5000/a", "example.com:5000", true},
		{"example.com:5000/a", "example.com", false},
		{"example.com/a", "example.com:443", false},
		{"[2001:db8::1]:5000/a", "[2001:db8::1]:5000", true},
		{"busybox", "https://index.docker.io/v1/", true},
		{"busybox", "docker.io", true},
		{"docker.io/x/y", "index.docker.io", true},
		{"example.com/x", "https://index.docker.io/v1/", false},
	} {
		a := access(c.image, []string{"s"}, map[string][]string{"s": {c.entry + "=u"}})
		if (len(a.Auths) == 1) != c.want {
			t.Errorf("%s with an entry for %s: %d", c.image, c.entry, len(a.Auths))
		}
	}
}

func TestCredentialsOrderAndKey(t *testing.T) {
	entries := map[string][]string{
		"one": {"example.com=general", "example.com/a=special"},
		"old": {"example.com/a/b=exact", "other.com=nobody"},
		"dup": {"example.com=again"},
	}
	a := access("example.com/a/b", []string{"one", "old", "dup"}, entries)
	var users []string
	for _, auth := range a.Auths {
		users = append(users, auth.Username)
		if auth.Password != "pw-"+auth.Username {
			t.Errorf("password of %s", auth.Username)
		}
	}
	if got := strings.Join(users, " "); got != "exact special general again" {
		t.Errorf("order %s", got)
	}
	if a.Key != "ns/old@7,one@7,dup@7" {
		t.Errorf("key %q", a.Key)
	}
	if b := access("third.com/x", []string{"one", "old"}, entries); b.Key != "" || len(b.Auths) != 0 {
		t.Errorf("secrets for other places made a difference: %q", b.Key)
	}
}

func TestCredentialsThatAreNotThere(t *testing.T) {
	if a := access("x", []string{"unread"}, nil); !a.Wait {
		t.Error("did not wait for a secret that has not been read")
	}
	a := access("x", []string{"gone", ""}, map[string][]string{"gone": nil})
	if a.Wait || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], `"gone" not found`) {
		t.Errorf("got %+v", a)
	}
}

func TestBadSecretsAreToldWithoutTheirContent(t *testing.T) {
	for _, data := range []map[string]string{
		{},
		{corev1.DockerConfigJsonKey: "s3cret"},
		{corev1.DockerConfigJsonKey: `{"auths": {"example.com": "s3cret"}}`},
		{corev1.DockerConfigJsonKey: `{"auths": {"example.com": {"auth": "s3cret"}}}`},
		{corev1.DockerConfigJsonKey: `{"auths": {"https://exa mple/%zz": {"username": "u", "password": "s3cret"}}}`},
		{corev1.DockerConfigKey: `["s3cret"]`},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "s"}}}}
		a := Credentials(pod, "example.com/x", func(k model.ConfigKey) (*model.Config, bool) {
			c := &model.Config{ConfigKey: k, Data: map[string][]byte{}}
			for name, text := range data {
				c.Data[name] = []byte(text)
			}
			return c, true
		})
		if len(a.Warnings) != 1 || len(a.Auths) != 0 || strings.Contains(a.Warnings[0], "s3cret") {
			t.Errorf("%v: %v", data, a.Warnings)
		}
	}
}
