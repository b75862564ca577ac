package imageplan

import (
	"reflect"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		place, image string
		want         bool
	}{
		{"registry.example", "registry.example/a/b:1", true},
		{"*.example", "registry.example/a", true},
		{"*.example", "a.b.example/a", false},
		{"registry.example/team", "registry.example/team/app", true},
		{"registry.example/team", "registry.example/teams/app", false},
		{"registry.example:5000", "registry.example/a", false},
		{"registry.example:5000", "registry.example:5000/a", true},
		{"index.docker.io", "busybox", true},
		{"registry.example", "NOT AN IMAGE", false},
		{"\x00", "registry.example/a", false},
	} {
		if got := Matches(test.place, test.image); got != test.want {
			t.Errorf("%s for %s: %t", test.place, test.image, got)
		}
	}
}

func TestLoginFile(t *testing.T) {
	logins, err := ReadLogins([]byte(`{"auths":{"registry.example:5000/team":{"auth":"YTpi"},"registry.example:5000":{"username":"c","password":"d"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Choose(logins, "registry.example:5000/team/app"), []Auth{{"a", "b"}, {"c", "d"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if got := Choose(logins, "other.example/app"); got != nil {
		t.Errorf("%v", got)
	}
	if _, err := ReadLogins([]byte(`{"auths": secret`)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	if got := Registry("busybox"); got != "docker.io" && got != "index.docker.io" {
		t.Errorf("%s", got)
	}
}
