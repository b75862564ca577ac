package sim

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// BenchmarkRun is a packet that the last of many iptables rules takes.
func BenchmarkRun(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var text strings.Builder
			text.WriteString("*filter\n:FORWARD ACCEPT [0:0]\n")
			for i := range n {
				fmt.Fprintf(&text, "-A FORWARD -d 10.%d.%d.%d/32 -j DROP\n", i>>16, i>>8&255, i&255)
			}
			text.WriteString("COMMIT\n")
			tables, err := ParseSave([]byte(text.String()), false)
			if err != nil {
				b.Fatal(err)
			}
			w := World{Local: func(netip.Addr) bool { return false }}
			last := netip.AddrFrom4([4]byte{10, byte((n - 1) >> 16), byte((n - 1) >> 8), byte(n - 1)})
			p := Packet{Src: netip.MustParseAddrPort("192.0.2.1:4000"), Dst: netip.AddrPortFrom(last, 80), Proto: 6, In: "eth0"}
			b.ReportAllocs()
			for b.Loop() {
				if out, complete := Run(&Ruleset{Tables: tables}, w, p); !complete || len(out) != 1 {
					b.Fatal(out)
				}
			}
		})
	}
}
