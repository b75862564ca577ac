package ebpf

import (
	"nodelet/internal/model"
)

// forgetFlows removes the UDP flows to endpoints that no longer serve. The
// programs would not follow them, but after the endpoint came back they would.
func (k *kernel) forgetFlows(c *content) error {
	serving := map[uint32]*pool{}
	for _, p := range c.pools {
		serving[p.id] = p
	}
	stopped := func(port uint32, e proxyEndpoint) bool {
		p := serving[port]
		return p == nil || p.members[decodeEndpoint(e).AddrPort]&uint32(proxyMemberFlagsMEMBER_SERVING) == 0
	}
	var lost []proxyTuple
	_, err := scan(k.maps.Flows, func(key *proxyTuple, f *proxyFlow) bool {
		t := *key
		if t.AtEgress != 0 || t.Proto != uint8(model.UDP) || proxyFlowFlags(f.Flags)&proxyFlowFlagsFLOW_REPLY != 0 {
			return true
		}
		if stopped(f.Port, proxyEndpoint{Addr: f.Addr, Port: f.Number}) {
			back := proxyTuple{Src: f.Addr, Sport: f.Number, Dst: t.Src, Dport: t.Sport, Proto: t.Proto, AtEgress: 1}
			onward := proxyTuple{Src: t.Src, Sport: t.Sport, Dst: f.Addr, Dport: f.Number, Proto: t.Proto, AtEgress: 1}
			lost = append(lost, t, back, onward)
		}
		return true
	})
	if err != nil {
		return err
	}
	if err := (bpfTable[proxyTuple, proxyFlow]{k.maps.Flows}).remove(lost); err != nil {
		return err
	}
	var gone []proxyDatagramKey
	_, err = scan(k.maps.Datagrams, func(d *proxyDatagramKey, v *proxyDatagram) bool {
		if d.Reply == 0 && stopped(v.Port, proxyEndpoint{Addr: v.Addr, Port: v.Number}) {
			gone = append(gone, *d)
		}
		return true
	})
	if err != nil {
		return err
	}
	return bpfTable[proxyDatagramKey, proxyDatagram]{k.maps.Datagrams}.remove(gone)
}
