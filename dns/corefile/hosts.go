package corefile

import (
	"net/netip"
	"slices"
	"strings"
)

func (p *parser) hosts(s *Server, d line) error {
	if s.Hosts != nil {
		return p.errorf(d.number, "hosts is here a second time")
	}
	h := &Hosts{TTL: 3600, Addrs: map[string][]netip.Addr{}, Names: map[netip.Addr][]string{}}
	if err := p.hostsFile(h, d); err != nil {
		return err
	}
	through := false
	for _, o := range d.block {
		switch o.name() {
		case "fallthrough":
			if len(o.args()) > 0 {
				return p.errorf(o.number, "hosts: fallthrough takes no zones here")
			}
			through = true
		case "ttl":
			ttl, err := p.number(o, 1, 65535)
			if err != nil {
				return err
			}
			h.TTL = uint32(ttl)
		case "no_reverse":
			h.NoReverse = true
		case "reload":
		default:
			if err := p.hostsEntry(h, o); err != nil {
				return err
			}
		}
	}
	if !through {
		return p.errorf(d.number, "hosts: add fallthrough; without it every other name would be denied")
	}
	s.Hosts = h
	return nil
}

func (p *parser) hostsEntry(h *Hosts, o line) error {
	ip, err := netip.ParseAddr(o.name())
	if err != nil || len(o.args()) == 0 || o.open {
		return p.errorf(o.number, "hosts: want an address and its names, or an option, not %q", o.name())
	}
	ip = ip.Unmap().WithZone("")
	names, err := p.zones(o, o.args())
	if err != nil {
		return err
	}
	h.add(ip, names)
	return nil
}

func (h *Hosts) add(ip netip.Addr, names []string) {
	for _, n := range names {
		if !slices.Contains(h.Addrs[n], ip) {
			h.Addrs[n] = append(h.Addrs[n], ip)
			h.Names[ip] = append(h.Names[ip], n)
		}
	}
}

// hostsFile reads the file that hosts names, of those that come with the
// Corefile, in the form of hosts(5).
func (p *parser) hostsFile(h *Hosts, d line) error {
	a := d.args()
	if len(a) == 0 {
		return nil
	}
	text, ok := p.files[a[0]]
	switch {
	case len(a) > 1:
		return p.errorf(d.number, "hosts: zones are not supported, the server block's are meant")
	case !ok:
		return p.errorf(d.number, "hosts %s: there is no such file; a key NAME of the ConfigMap is %sNAME", a[0], Dir)
	}
	number := 0
	for row := range strings.Lines(text) {
		number++
		row, _, _ = strings.Cut(row, "#")
		fields := strings.Fields(row)
		if len(fields) == 0 {
			continue
		}
		ip, err := netip.ParseAddr(fields[0])
		if err != nil || len(fields) < 2 {
			return p.errorf(d.number, "hosts %s, line %d: want an address and its names, not %q", a[0], number, strings.TrimSpace(row))
		}
		names := make([]string, len(fields)-1)
		for i, f := range fields[1:] {
			if names[i], err = zoneName(f); err != nil {
				return p.errorf(d.number, "hosts %s, line %d: %v", a[0], number, err)
			}
		}
		h.add(ip.Unmap().WithZone(""), names)
	}
	return nil
}
