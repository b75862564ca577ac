package netns

import (
	"errors"
	"os"
)

// inherited are the IPv4 settings that a new namespace takes over from the
// machine's first one and that decide about a packet's way, with the values the
// kernel itself starts with (devinet_init_net and ip_sysctl.rst; those of IPv6
// are never taken over). The whole of a namespace comes first: forwarding
// there is written to every link, and resets redirects.
var inherited = [...]struct{ key, value string }{
	{"forwarding", "0"},
	{"rp_filter", "0"},
	{"accept_redirects", "1"},
	{"send_redirects", "1"},
	{"route_localnet", "0"},
	{"accept_local", "0"},
	{"src_valid_mark", "0"},
	{"arp_ignore", "0"},
	{"arp_announce", "0"},
	{"arp_filter", "0"},
	{"proxy_arp", "0"},
}

// Disinherit gives the calling thread's namespace the kernel's own IPv4
// settings in place of those of the machine it was made on: a laboratory's
// hosts behave the same on a router, on a node with strict reverse path
// filters and on a fresh machine. It belongs before the first link: of the
// links, only lo is settled. Settings that this kernel lacks are passed over.
func Disinherit() error {
	for _, scope := range [...]string{"all", "default", "lo"} {
		for _, s := range inherited {
			_, err := WriteSysctl("ipv4/conf/"+scope+"/"+s.key, s.value)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
