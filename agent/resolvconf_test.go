package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A stub on the host's loopback is of no use in a pod: what it asks itself is, where systemd-resolved tells.
func TestResolvConf(t *testing.T) {
	const real = "nameserver 192.0.2.53\nsearch lan\n"
	for _, test := range []struct{ name, own, resolved, want string }{
		{"real servers", "nameserver 192.0.2.1\n", real, "192.0.2.1"},
		{"stub of systemd-resolved", "nameserver 127.0.0.53\noptions edns0\n", real, "192.0.2.53"},
		{"stub in IPv6", "nameserver ::1\n", real, "192.0.2.53"},
		{"stub and a real one", "nameserver 127.0.0.1\nnameserver 192.0.2.1\n", real, "127.0.0.1 192.0.2.1"},
		{"no server", "search lan\n", real, ""},
		{"stub of somebody else", "nameserver 127.0.0.1\n", "", "127.0.0.1"},
		{"stub that asks a stub", "nameserver 127.0.0.53\n", "nameserver 127.0.0.1\n", "127.0.0.53"},
	} {
		dir := t.TempDir()
		r := resolvConf{own: resolverFile{path: filepath.Join(dir, "own"), log: slog.New(slog.DiscardHandler)}, resolved: resolverFile{path: filepath.Join(dir, "resolved")}}
		for path, text := range map[string]string{r.own.path: test.own, r.resolved.path: test.resolved} {
			if text == "" {
				continue
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(r.read().Servers, " "); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
