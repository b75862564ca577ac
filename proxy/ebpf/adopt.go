package ebpf

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"nodelet/internal/model"
	"nodelet/internal/nl"
	"nodelet/proxy/lb"
)

// Adopt hands over UDP flows that another back end translates: the next Apply that looks at everything
// notes them before its programs are in their places, so that they go on to the same endpoint, which sees
// the same address and port. Adopted tells which it took.
func (b *Backend) Adopt(flows []lb.UDPFlow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offered, b.adopted = flows, nil
}

// Adopted are the flows that the programs go on with since the last Apply.
func (b *Backend) Adopted() []lb.UDPFlow {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.adopted
}

// adopt notes the flows that were offered.
func (b *Backend) adopt(c *content, want *lb.State) error {
	if len(b.offered) == 0 {
		return nil
	}
	offered := b.offered
	b.offered = nil
	here := map[netip.Addr]bool{}
	err := b.inside(func() error {
		conn, err := nl.Open()
		if err != nil {
			return err
		}
		defer conn.Close()
		addrs, err := conn.Addrs(0)
		for _, a := range addrs {
			here[a.Prefix.Addr()] = true
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("take over UDP flows: %w", err)
	}
	now, err := sinceBoot()
	if err != nil {
		return err
	}
	entries := &puts[proxyTuple, proxyFlow]{}
	for _, f := range offered {
		if here[f.Client.Addr()] {
			continue // the node's own packets are translated before any device sees them
		}
		if port, serving := c.serves(want, f, here[f.Frontend.Addr()]); serving {
			noteFlow(entries, f, port, now)
			b.adopted = append(b.adopted, f)
		}
	}
	marked := make([]uint32, 0, len(entries.keys))
	for i := range entries.keys {
		marked = append(marked, markOfFlow(&entries.keys[i], &entries.values[i]))
	}
	if err := b.kernel.mark(marked); err != nil {
		return err
	}
	for i := range entries.keys {
		if err := b.kernel.maps.Flows.Update(&entries.keys[i], &entries.values[i], ebpf.UpdateAny); err != nil {
			return explain(b.kernel.maps.Flows, err)
		}
	}
	return nil
}

// serves tells whether the endpoint of a flow serves the port that the flow asked for, and gives that
// port's number.
func (c *content) serves(want *lb.State, f lb.UDPFlow, toNode bool) (port uint32, is bool) {
	at := lb.Frontend{Addr: f.Frontend.Addr(), Proto: model.UDP, Port: f.Frontend.Port()}
	t, ok := want.Lookup(at)
	if !ok && toNode {
		at.Addr = netip.IPv4Unspecified()
		if f.Frontend.Addr().Is6() {
			at.Addr = netip.IPv6Unspecified()
		}
		t, ok = want.Lookup(at)
	}
	if !ok || t.Port == nil || c.pools[nameOf(t.Port)] == nil {
		return 0, false
	}
	p := c.pools[nameOf(t.Port)]
	return p.id, p.members[f.Endpoint]&uint32(proxyMemberFlagsMEMBER_SERVING) != 0
}

// noteFlow adds what the programs would have noted of a flow: see bpf/tracked.h and bpf/flow.h.
func noteFlow(p *puts[proxyTuple, proxyFlow], f lb.UDPFlow, port, now uint32) {
	add := func(from, to, becomes netip.AddrPort, egress bool, flags proxyFlowFlags) {
		t := proxyTuple{
			Src: encodeAddr(from.Addr()), Sport: swapped(from.Port()), Dst: encodeAddr(to.Addr()), Dport: swapped(to.Port()),
			Proto: uint8(model.UDP),
		}
		if egress {
			t.AtEgress = 1
		}
		p.add(t, proxyFlow{Addr: encodeAddr(becomes.Addr()), Number: swapped(becomes.Port()), Flags: uint16(flags), Port: port, Seen: now})
	}
	const answer, masqueraded = proxyFlowFlagsFLOW_REPLY, proxyFlowFlagsFLOW_MASQUERADED
	var flags proxyFlowFlags
	if f.Source != f.Client {
		flags = masqueraded
		add(f.Client, f.Endpoint, f.Source, true, masqueraded)
		add(f.Endpoint, f.Source, f.Client, false, answer|masqueraded)
	}
	add(f.Endpoint, f.Client, f.Frontend, true, answer)
	add(f.Client, f.Frontend, f.Endpoint, false, flags)
}
