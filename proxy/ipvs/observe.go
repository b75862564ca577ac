package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"nodelet/internal/ipvs"
	"nodelet/internal/nl"
	"nodelet/proxy/lb"
)

// doors are connections to the kernel, for one goroutine at a time.
type doors struct {
	conn  *ipvs.Conn
	links *nl.Conn
}

func openDoors(netns int) (d doors, err error) {
	if d.conn, err = ipvs.Open(netns); err != nil {
		return d, err
	}
	if netns > 0 {
		d.links, err = nl.OpenAt(netns)
	} else {
		d.links, err = nl.Open()
	}
	if err != nil {
		d.conn.Close()
	}
	return d, err
}

func (d doors) close() {
	d.conn.Close()
	d.links.Close()
}

// observe reads what is at our addresses.
func (d doors) observe() (*table, error) {
	t := newTable()
	link, err := d.links.Link(device)
	if errors.Is(err, nl.ErrNotFound) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	addrs, err := d.links.Addrs(link.Index)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if ip := a.Prefix.Addr(); a.Prefix.IsSingleIP() && !ip.IsLinkLocalUnicast() {
			t.addrs[ip] = true
		}
	}
	all, err := d.conn.List()
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if !t.addrs[s.Addr] {
			continue
		}
		one := service{s.Scheduler, map[netip.AddrPort]ipvs.RealServer{}}
		for _, r := range s.Real {
			one.real[r.AddrPort] = r
		}
		t.services[s.VirtualServer] = one
	}
	return t, nil
}

// ReadBack compares what the kernel holds about a frontend, in the rules and in
// IPVS, with what want says. It shares nothing with Apply but the rules' connection.
func (b *Backend) ReadBack(ctx context.Context, want *lb.State, about lb.Frontend) (lb.Kernel, error) {
	k, err := b.rules.ReadBack(ctx, want, about)
	k.Backend = "ipvs"
	if err != nil {
		return k, err
	}
	d, err := openDoors(b.cfg.NetNS)
	if err != nil {
		return k, err
	}
	defer d.close()
	have, err := d.observe()
	if err != nil {
		return k, fmt.Errorf("read back IPVS: %w", err)
	}
	compare(&k, about, have, compile(want, b.cfg.Scheduler, b.cfg.IPv6))
	return k, nil
}

// compare notes what IPVS has otherwise than wanted. Real servers that drain
// are as they should be: new connections do not meet them.
func compare(k *lb.Kernel, about lb.Frontend, have, want *table) {
	at := ipvs.VirtualServer{Addr: about.Addr, Proto: uint8(about.Proto), Port: about.Port}
	if s, there := have.services[at]; there {
		k.Holds = append(k.Holds, "IPVS "+line(at, s))
	}
	steps, _ := diff(have, want)
	for _, s := range steps {
		mine := s.server == at
		if s.do == addAddr || s.do == deleteAddr {
			mine = s.addr == about.Addr
		}
		d, differs := difference(s)
		switch {
		case !differs:
		case mine:
			k.Differences = append(k.Differences, d)
		default:
			k.Elsewhere++
		}
	}
	slices.Sort(k.Holds)
}

// difference says what is wrong when a step has to be done.
func difference(s step) (lb.Difference, bool) {
	server := "IPVS virtual server " + s.server.String()
	switch s.do {
	case addAddr:
		return lb.Difference{Kind: lb.Missing, Object: fmt.Sprintf("address %s on link %s", s.addr, device), Effect: "packets for it do not reach IPVS"}, true
	case addServer:
		return lb.Difference{Kind: lb.Missing, Object: server, Effect: "nobody translates packets for it"}, true
	case setScheduler:
		return lb.Difference{Kind: lb.Altered, Object: server + ": scheduler", Effect: "endpoints are chosen in another way than asked for"}, true
	case addReal:
		return lb.Difference{Kind: lb.Missing, Object: server + ": " + s.real.AddrPort.String(), Effect: "the endpoint gets no connections"}, true
	case setWeight:
		if s.real.Weight == 0 {
			return lb.Difference{Kind: lb.Foreign, Object: server + ": " + s.real.AddrPort.String(), Effect: "connections go to an endpoint that is none"}, true
		}
		return lb.Difference{Kind: lb.Altered, Object: server + ": " + s.real.AddrPort.String() + ": weight", Effect: "the endpoint gets another share of the connections"}, true
	case deleteReal:
		return lb.Difference{Kind: lb.Foreign, Object: server + ": " + s.real.AddrPort.String(), Effect: "connections go to an endpoint that is none"}, s.real.Weight > 0
	case deleteServer:
		return lb.Difference{Kind: lb.Foreign, Object: server, Effect: "it takes packets that are no Service's"}, true
	}
	return lb.Difference{}, false // an address that is there too long harms nobody
}
