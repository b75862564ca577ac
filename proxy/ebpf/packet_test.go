package ebpf

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"nodelet/internal/model"
)

// BenchmarkPacket is what the programs take for a packet of an established
// connection, and for one that is none of ours. The flow translates to the
// addresses that the packet has already, so that each round is the same.
func BenchmarkPacket(b *testing.B) {
	back := alone(b)
	if err := back.open(); err != nil {
		b.Fatal(err)
	}
	k := back.kernel
	if err := k.maps.Devices.Put(uint32(loopback), proxyDevice{L2: ethernet}); err != nil {
		b.Fatal(err)
	}
	from, to := netip.MustParseAddrPort("192.168.7.9:40000"), netip.MustParseAddrPort("10.244.1.2:8080")
	for _, c := range []struct {
		name   string
		prog   *ebpf.Program
		known  bool
		egress uint8
		flags  proxyFlowFlags
	}{
		{"ingress/ours", k.progs.Ingress, true, 0, 0},
		{"ingress/answer", k.progs.Ingress, true, 0, proxyFlowFlagsFLOW_REPLY},
		{"ingress/other", k.progs.Ingress, false, 0, 0},
		{"egress/masqueraded", k.progs.Egress, true, 1, proxyFlowFlagsFLOW_MASQUERADED},
		{"egress/answer", k.progs.Egress, true, 1, proxyFlowFlagsFLOW_REPLY},
		{"egress/other", k.progs.Egress, false, 1, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			key := proxyTuple{
				Src: encodeAddr(from.Addr()), Sport: swapped(from.Port()), Dst: encodeAddr(to.Addr()), Dport: swapped(to.Port()),
				Proto: uint8(model.TCP), AtEgress: c.egress,
			}
			f := proxyFlow{Addr: key.Dst, Number: key.Dport, Flags: uint16(c.flags), Port: 1}
			if c.egress == 1 {
				f.Addr, f.Number = key.Src, key.Sport
			}
			if err := emptyMap(k.maps.Flows); err != nil {
				b.Fatal(err)
			}
			if c.known {
				if err := k.maps.Flows.Put(key, f); err != nil {
					b.Fatal(err)
				}
			}
			packet := segment(from, to)
			b.ResetTimer()
			// The time between two rounds is the kernel's own; it gives that of a round by itself.
			_, took, err := c.prog.Benchmark(packet, max(b.N, 1000), b.ResetTimer)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took.Nanoseconds()), "ns/packet")
		})
	}
}

// segment is a TCP segment without data, in an Ethernet frame.
func segment(from, to netip.AddrPort) []byte {
	p := make([]byte, ethernet+20+20+20)
	binary.BigEndian.PutUint16(p[12:], 0x0800)
	ip := p[ethernet:]
	ip[0], ip[8], ip[9] = 0x45, 64, byte(model.TCP)
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	tcp := ip[20:]
	binary.BigEndian.PutUint16(tcp, from.Port())
	binary.BigEndian.PutUint16(tcp[2:], to.Port())
	tcp[12], tcp[13] = 0x50, 0x10 // 20 bytes, ACK
	return p
}
