package ipvs

import (
	"errors"
	"net/netip"

	"nodelet/internal/nft/sim"
)

// Choices are, for each virtual server, the real ones that new connections go to.
type Choices map[VirtualServer][]netip.AddrPort

// Chosen reads the choices of a network namespace; nothing where the kernel's
// module is not loaded.
func Chosen(netns int) (Choices, error) {
	c, err := Open(netns)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all, err := c.List()
	if err != nil {
		return nil, err
	}
	out := make(Choices, len(all))
	for _, s := range all {
		out[s.VirtualServer] = nil
		for _, r := range s.Real {
			if r.Weight > 0 {
				out[s.VirtualServer] = append(out[s.VirtualServer], r.AddrPort)
			}
		}
	}
	return out, nil
}

// In is a world with these virtual servers, whose addresses are the node's.
func (c Choices) In(w sim.World) sim.World {
	if len(c) == 0 {
		return w
	}
	mine := make(map[netip.Addr]bool, len(c))
	for v := range c {
		mine[v.Addr] = true
	}
	local := w.Local
	w.Local = func(a netip.Addr) bool { return mine[a] || local(a) }
	w.Virtual = func(dst netip.AddrPort, proto uint8) ([]netip.AddrPort, bool) {
		real, yes := c[VirtualServer{Addr: dst.Addr(), Proto: proto, Port: dst.Port()}]
		return real, yes
	}
	return w
}
