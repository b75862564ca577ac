package dns

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nodelet/dns/corefile"
)

// resolvCheck is how often the file may be looked at again; it is looked at
// only when a question goes out, so an idle node does nothing.
const resolvCheck = time.Second

// maxUpstreams is how many name servers are used; the resolver library reads three.
const maxUpstreams = 8

// stubs are the addresses of systemd-resolved's stub listener. It may well be
// configured to ask us, so its own upstreams are asked instead.
var stubs = [...]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 53}), netip.AddrFrom4([4]byte{127, 0, 0, 54})}

// resolvers keeps the list of upstreams in step with resolv.conf.
type resolvers struct {
	path, resolvedPath string
	known              *upstreams
	log                *slog.Logger

	current atomic.Pointer[[]*upstream]
	next    atomic.Int64 // unix nanoseconds of the next look

	mu   sync.Mutex // one look at a time
	seen string     // what the files were like
}

// newResolvers reads nothing yet.
func newResolvers(c Config, known *upstreams, log *slog.Logger) *resolvers {
	r := &resolvers{path: c.ResolvConf, resolvedPath: c.ResolvedConf, known: known, log: log}
	r.current.Store(&[]*upstream{})
	return r
}

// list gives the upstreams to ask at that time.
func (r *resolvers) list(now time.Time) []*upstream {
	if at := r.next.Load(); now.UnixNano() >= at && r.next.CompareAndSwap(at, now.Add(resolvCheck).UnixNano()) {
		r.look()
	}
	return *r.current.Load()
}

// look reads the files again when they changed.
func (r *resolvers) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := stamp(r.path) + stamp(r.resolvedPath)
	if seen == r.seen {
		return
	}
	r.seen = seen
	servers, err := readServers(r.path, r.resolvedPath)
	if err != nil {
		// The last good list stays: a half-written file must not take the network's names away.
		r.log.Error("read resolvers", "err", err)
		return
	}
	r.set(servers)
}

// set replaces the list, keeping what is known about servers that stay.
func (r *resolvers) set(servers []netip.AddrPort) {
	list := []*upstream{}
	for _, s := range servers {
		if u := r.known.get(corefile.Upstream{Addr: s}); u != nil {
			list = append(list, u)
		}
	}
	if len(list) == 0 {
		r.log.Warn("no resolvers for outside names: they get SERVFAIL until resolv.conf names one", "file", r.path)
	} else {
		r.log.Info("resolvers", "servers", servers)
	}
	r.current.Store(&list)
}

// stamp tells one state of a file from another.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return path + " missing\n"
	}
	return fmt.Sprintf("%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
}

// readServers reads the name servers of resolv.conf, those behind the stub of
// systemd-resolved in its place.
func readServers(path, resolvedPath string) ([]netip.AddrPort, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read resolvers: %w", err)
	}
	servers := parseServers(string(text))
	isStub := func(s netip.AddrPort) bool { return slices.Contains(stubs[:], s.Addr()) }
	if !slices.ContainsFunc(servers, isStub) {
		return servers, nil
	}
	behind, err := os.ReadFile(resolvedPath)
	real := slices.DeleteFunc(parseServers(string(behind)), isStub)
	if err != nil || len(real) == 0 {
		return servers, nil // the stub is all there is, and it is reachable from the host
	}
	return real, nil
}

// parseServers reads the nameserver lines as the resolver library does:
// anything else, and what is no address, is ignored.
func parseServers(text string) []netip.AddrPort {
	var servers []netip.AddrPort
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || len(servers) == maxUpstreams {
			continue
		}
		a, err := netip.ParseAddr(f[1])
		if err != nil {
			continue
		}
		if s := netip.AddrPortFrom(a.Unmap(), 53); !slices.Contains(servers, s) {
			servers = append(servers, s)
		}
	}
	return servers
}
