package eval_test

import (
	"fmt"
	"net/netip"
	"testing"

	"nodelet/internal/model"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

func BenchmarkEval(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := lb.Compile(config, lbtest.Many(n, 2).Snapshot())
			p := eval.Packet{From: lb.FromPod, Src: netip.MustParseAddr("10.244.0.9"), Dst: netip.AddrPortFrom(netip.MustParseAddr("10.96.0.5"), 80), Proto: model.TCP}
			if v := eval.Eval(s, p); v.Outcome != eval.DNAT {
				b.Fatal(v)
			}
			b.ReportAllocs()
			for b.Loop() {
				eval.Eval(s, p)
			}
		})
	}
}
