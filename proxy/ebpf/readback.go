package ebpf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"nodelet/internal/model"
	"nodelet/internal/nl"
	"nodelet/proxy/lb"
)

// ReadBack compares what the kernel holds about a frontend with what want
// says: the maps, and the places of the programs. It opens all by itself and
// shares nothing with Apply.
func (b *Backend) ReadBack(_ context.Context, want *lb.State, about lb.Frontend) (lb.Kernel, error) {
	k := lb.Kernel{Backend: "ebpf"}
	held, err := openHeld(b.cfg.BPFFS, b.cookie)
	if errors.Is(err, fs.ErrNotExist) {
		k.Differences = append(k.Differences, lb.Difference{Kind: lb.Missing, Object: "maps in " + pinsOf(b.cfg.BPFFS, b.cookie),
			Effect: "no connection to any Service is translated"})
		return k, nil
	}
	if err != nil {
		return k, err
	}
	defer func() { _ = held.close() }()
	found, err := held.readAll()
	if err != nil {
		return k, err
	}
	c := contentOf(want.Config(), &found)
	wanted := c.become(want, nil)
	r := reading{about: about, kernel: &k}
	if t, ok := want.Lookup(about); ok {
		r.port = c.number(t)
	}
	r.maps(&found, &wanted)
	if err := b.inside(func() error { return r.places(b, held, want) }); err != nil {
		return k, err
	}
	return k, r.flows(held, &found)
}

// reading sorts the differences by whether packets to one frontend can meet them.
type reading struct {
	about  lb.Frontend
	port   uint32 // the number of its port; 0 for none
	kernel *lb.Kernel
}

func (r *reading) differs(meets bool, d lb.Difference) {
	if !meets {
		r.kernel.Elsewhere++
		return
	}
	r.kernel.Differences = append(r.kernel.Differences, d)
}

// mapOf is how one map is compared.
type mapOf[K comparable] struct {
	name   string
	meets  func(K) bool
	effect string
}

// maps compares what the daemon writes, the widest first.
func (r *reading) maps(found, wanted *elements) {
	ofPort := func(port uint32) bool { return port == r.port && port != 0 }
	compare(r, mapOf[proxyFrontendKey]{"frontends", func(k proxyFrontendKey) bool { return decodeFrontend(k) == r.about },
		"connections to the frontend are not translated, or not as they should be"}, found.frontends, wanted.frontends)
	compare(r, mapOf[uint32]{"ports", ofPort, "connections to the frontend find no endpoint, or not all of them"}, found.ports, wanted.ports)
	compare(r, mapOf[proxySlotKey]{"slots", func(k proxySlotKey) bool { return ofPort(k.Port) },
		"some connections go to another endpoint than they should"}, found.slots, wanted.slots)
	compare(r, mapOf[proxyMemberKey]{"members", func(k proxyMemberKey) bool { return ofPort(k.Port) },
		"clients do not stay with their endpoint, or stay with one that does not serve"}, found.members, wanted.members)
	compare(r, mapOf[proxyRangeKey]{"ranges", func(k proxyRangeKey) bool {
		return k.Port == podRanges || k.Port == serviceRanges && r.about.Proto == 0 || ofPort(k.Port)
	},
		"pods are not told from other clients, or clients are let in or kept out wrongly"}, found.ranges, wanted.ranges)
}

// compare compares a map. What is the frontend's is listed.
func compare[K, V comparable](r *reading, m mapOf[K], found, wanted map[K]V) {
	var holds []string
	var differences []lb.Difference
	note := func(k K, kind lb.DifferenceKind, what string) {
		if !m.meets(k) {
			r.kernel.Elsewhere++
			return
		}
		differences = append(differences, lb.Difference{Kind: kind, Object: "map " + m.name + ": " + what, Effect: m.effect})
	}
	for k, v := range found {
		if m.meets(k) {
			holds = append(holds, m.name+" { "+element(k, v)+" }")
		}
		if _, ok := wanted[k]; !ok {
			note(k, lb.Foreign, element(k, v))
		}
	}
	for k, v := range wanted {
		switch have, ok := found[k]; {
		case !ok:
			note(k, lb.Missing, element(k, v))
		case have != v:
			note(k, lb.Altered, element(k, v)+", found "+element(k, have))
		}
	}
	slices.Sort(holds)
	slices.SortFunc(differences, func(a, b lb.Difference) int { return cmp.Compare(a.Object, b.Object) })
	r.kernel.Holds = append(r.kernel.Holds, holds...)
	r.kernel.Differences = append(r.kernel.Differences, differences...)
}

// element is one entry of a map in words.
func element(key, value any) string {
	switch k := key.(type) {
	case proxyFrontendKey:
		return fmt.Sprintf("%s: %s", decodeFrontend(k), value)
	case proxyRangeKey:
		return k.String()
	case proxyAddr:
		return fmt.Sprintf("%s: node ports %d", decodeAddr(k), value.(proxyLocal).NodePorts)
	}
	return fmt.Sprintf("%v: %v", key, value)
}

// places compares what the maps know of the node's links and addresses, and
// looks where the programs are. The calling thread is in the network namespace.
func (r *reading) places(b *Backend, held *kernel, want *lb.State) error {
	c, err := nl.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	links, addrs, err := linksOf(c)
	if err != nil {
		return err
	}
	p := placeOf(want.Config(), want, links, addrs)
	locals, err := readMap[proxyAddr, proxyLocal](held.maps.Locals)
	if err != nil {
		return err
	}
	concerns := func(a proxyAddr) bool {
		ip := decodeAddr(a)
		return ip == r.about.Addr || r.about.NodePort() && ip.Is6() == r.about.IPv6() && locals[a].NodePorts|p.locals[a].NodePorts != 0
	}
	compare(r, mapOf[proxyAddr]{"locals", concerns,
		"node ports do not answer on this address, or answer where they should not"}, locals, p.locals)
	devices, err := readMap[uint32, proxyDevice](held.maps.Devices)
	if err != nil {
		return err
	}
	a := &attached{conn: c, kernel: held, names: map[int]string{}}
	for _, l := range links {
		a.names[l.Index] = l.Name
		have, want := devices[uint32(l.Index)], p.devices[uint32(l.Index)]
		if _, is := p.devices[uint32(l.Index)]; is && (have.L2 != want.L2 || have.towards(r.about) != want.towards(r.about)) {
			r.differs(true, lb.Difference{Kind: lb.Altered, Object: "map devices: " + l.Name, Effect: "packets that come in or go out by " + l.Name + " are dropped or masqueraded with the wrong address"})
		}
	}
	if err := r.sockets(b, a); err != nil {
		return err
	}
	for _, index := range slices.Sorted(maps.Keys(p.devices)) {
		if err := r.device(a, int(index)); err != nil {
			return err
		}
	}
	return r.shortcuts(b, a, links, addrs)
}

// towards is the node's address for the frontend's family.
func (d proxyDevice) towards(f lb.Frontend) proxyAddr {
	if f.IPv6() {
		return d.Six
	}
	return d.Four
}

// flows lists the flows to the frontend that the programs would follow.
func (r *reading) flows(held *kernel, found *elements) error {
	flows, err := readMap[proxyTuple, proxyFlow](held.maps.Flows)
	if err != nil {
		return err
	}
	now, err := sinceBoot()
	if err != nil {
		return err
	}
	for t, f := range flows {
		dst := netip.AddrPortFrom(decodeAddr(t.Dst), swapped(t.Dport))
		if t.AtEgress != 0 || f.Flags&uint16(proxyFlowFlagsFLOW_REPLY) != 0 || model.Protocol(t.Proto) != r.about.Proto || dst.Port() != r.about.Port ||
			dst.Addr() != r.about.Addr && (!r.about.NodePort() || f.Port != r.port) {
			continue
		}
		member := found.members[proxyMemberKey{Port: f.Port, Addr: f.Addr, Number: f.Number}]
		if t.Proto == uint8(model.UDP) && (f.Port != r.port || now-f.Seen >= udpIdle || member&uint32(proxyMemberFlagsMEMBER_SERVING) == 0) {
			continue // its next packet begins anew
		}
		r.kernel.Flows = append(r.kernel.Flows, lb.Flow{
			Src: netip.AddrPortFrom(decodeAddr(t.Src), swapped(t.Sport)), Dst: dst,
			To: netip.AddrPortFrom(decodeAddr(f.Addr), swapped(f.Number)),
		})
	}
	slices.SortFunc(r.kernel.Flows, func(a, b lb.Flow) int {
		return cmp.Or(a.Src.Compare(b.Src), a.Dst.Compare(b.Dst))
	})
	return nil
}
