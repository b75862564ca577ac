package credplugin

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodelet/agent/image/imageplan"
)

// place makes a plugin directory with one program and its configuration.
func place(t *testing.T, script, config string) (file, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "helper"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	if config == "" {
		config = fmt.Sprintf(`
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: helper
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ["*.example", "registry.example:5000"]
  defaultCacheDuration: 10m
  args: [one, two]
  env: [{name: COUNT, value: %q}]
`, filepath.Join(dir, "count"))
	}
	file = filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, dir
}

// reply answers with a key type, and counts how often it ran.
func reply(keyType, more string) string {
	return `cat > $COUNT.question; echo run $1 $2 >> $COUNT
echo '{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse","cacheKeyType":"` + keyType + `"` + more +
		`,"auth":{"registry.example":{"username":"u","password":"p"},"registry.example/team":{"username":"t","password":"q"}}}'`
}

func load(t *testing.T, script string) (*Plugins, func() int) {
	t.Helper()
	file, dir := place(t, script, "")
	p, err := Load(file, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p, func() int {
		b, _ := os.ReadFile(filepath.Join(dir, "count"))
		return strings.Count(string(b), "run one two\n")
	}
}

func TestLogins(t *testing.T) {
	for keyType, runs := range map[string]int{"Image": 2, "Registry": 1, "Global": 1} {
		p, ran := load(t, reply(keyType, ""))
		for range 2 {
			for _, image := range []string{"registry.example/team/app:1", "registry.example/app"} {
				got := imageplan.Choose(p.Logins(t.Context(), image), image)
				if len(got) == 0 || got[0].Username != map[string]string{"registry.example/team/app:1": "t", "registry.example/app": "u"}[image] {
					t.Errorf("%s %s: %d logins", keyType, image, len(got))
				}
			}
		}
		if got := p.Logins(t.Context(), "elsewhere.test/app"); got != nil {
			t.Error("asked for an image that it is not for")
		}
		if ran() != runs {
			t.Errorf("%s: ran %d times, want %d", keyType, ran(), runs)
		}
		q, err := os.ReadFile(p.all[0].Env[0].Value + ".question")
		if want := `{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"registry.example/`; err != nil || !strings.HasPrefix(string(q), want) {
			t.Errorf("question %s %v", q, err)
		}
	}
	p, ran := load(t, reply("Image", `,"cacheDuration":"0s"`))
	p.Logins(t.Context(), "registry.example/a")
	p.Logins(t.Context(), "registry.example/a")
	if ran() != 2 {
		t.Errorf("an answer for once was kept")
	}
}

// A plugin that fails costs its logins and nothing else.
func TestBadPlugins(t *testing.T) {
	for name, script := range map[string]string{
		"fails": "echo secret >&2; exit 3", "says nothing": "", "says nonsense": "echo nonsense", "floods": "yes | head -c 3000000",
		"another version": `echo '{"apiVersion":"credentialprovider.kubelet.k8s.io/v9","kind":"CredentialProviderResponse","cacheKeyType":"Image"}'`,
		"no key type":     `echo '{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse"}'`,
	} {
		p, _ := load(t, script)
		if got := p.Logins(t.Context(), "registry.example/a"); got != nil {
			t.Errorf("%s: %d logins", name, len(got))
		}
	}
}

func TestBadConfig(t *testing.T) {
	const good = `{"apiVersion":"kubelet.config.k8s.io/v1","kind":"CredentialProviderConfig","providers":[
{"name":"helper","apiVersion":"credentialprovider.kubelet.k8s.io/v1","matchImages":["a"],"defaultCacheDuration":"1m"}]}`
	file, dir := place(t, "", good)
	if _, err := Load(file, dir, nil); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"config.k8s.io/v1", "config.k8s.io/v7"}, {"CredentialProviderConfig", "KubeletConfiguration"}, {`"helper"`, `"../helper"`}, {`"helper"`, `"none"`},
		{`"helper"`, `"config.yaml"`}, {`["a"]`, `[]`}, {`"1m"`, `"-1m"`}, {`,"defaultCacheDuration":"1m"`, ""}, {"io/v1\",\"matchImages", "io/v1alpha1\",\"matchImages"},
		{`"name"`, `"nam"`}, {`"matchImages"`, `"tokenAttributes":{"serviceAccountTokenAudience":"x"},"matchImages"`},
	} {
		file, dir := place(t, "", strings.Replace(good, change[0], change[1], 1))
		if _, err := Load(file, dir, nil); err == nil {
			t.Errorf("%s for %s was accepted", change[1], change[0])
		}
	}
	if _, err := Load("/none", dir, nil); err == nil {
		t.Error("a file that is not there")
	}
}
