package agent

import (
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"nodelet/agent/podplan"
)

// resolvConf is the host's resolver configuration, as pods can use it. Where that names only servers on the
// loopback, which is another one in a pod, resolved has what systemd-resolved asks itself, if it runs.
type resolvConf struct{ own, resolved resolverFile }

func (r *resolvConf) read() podplan.DNS {
	own := r.own.read()
	if len(own.Servers) > 0 && !slices.ContainsFunc(own.Servers, reachable) {
		if other := r.resolved.read(); slices.ContainsFunc(other.Servers, reachable) {
			return other
		}
	}
	return own
}

// reachable: a server that is not this host by a name that only this host has.
func reachable(server string) bool {
	ip, err := netip.ParseAddr(server)
	return err == nil && !ip.IsLoopback()
}

// resolverFile reads a resolver configuration, anew when the file changed.
type resolverFile struct {
	path string // empty: there is none
	log  *slog.Logger

	mu       sync.Mutex
	modified time.Time
	dns      podplan.DNS
}

func (r *resolverFile) read() podplan.DNS {
	if r.path == "" {
		return podplan.DNS{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(r.path)
	if err == nil && info.ModTime().Equal(r.modified) {
		return r.dns
	}
	var text []byte
	if err == nil {
		text, err = tail(r.path, 1<<20)
	}
	if err != nil {
		if !r.modified.IsZero() {
			r.log.Warn("read resolver configuration, going on with what it was", "err", err)
		}
		return r.dns
	}
	r.modified, r.dns = info.ModTime(), podplan.ParseResolvConf(string(text))
	return r.dns
}
