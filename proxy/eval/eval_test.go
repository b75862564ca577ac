package eval_test

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nodelet/internal/golden"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

var config = &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{
	netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/56"),
}}

// TestGolden evaluates the packets of the same files that package lb compiles.
func TestGolden(t *testing.T) {
	golden.Run(t, services, func(t *golden.Case) {
		t.Want("verdicts", verdicts(t.T, compile(t), t.Section("packets")))
	})
}

// TestTrace holds the sentences of the same packets.
func TestTrace(t *testing.T) {
	golden.Run(t, services, func(t *golden.Case) {
		golden.File(t.T, filepath.Join("testdata", filepath.Base(t.Name())+".trace"), traces(t.T, compile(t), t.Section("packets")))
	})
}

const services = "../lb/testdata/services/*.txtar"

func compile(t *golden.Case) *lb.State {
	t.Helper()
	w := lbtest.New()
	if err := w.Apply(t.Section("world")); err != nil {
		t.Fatal(err)
	}
	return lb.Compile(config, w.Snapshot())
}

func traces(t *testing.T, s *lb.State, packets string) string {
	var b strings.Builder
	for line := range strings.Lines(packets) {
		p, err := lbtest.ParsePacket(line)
		if err != nil {
			t.Fatal(err)
		}
		v, said := eval.Trace(s, p)
		if diff := cmp.Diff(eval.Eval(s, p).String(), v.String()); diff != "" {
			t.Errorf("%s: Trace and Eval differ:\n%s", p, diff)
		}
		b.WriteString(p.String() + " : " + v.String() + "\n")
		for _, sentence := range said {
			b.WriteString("  " + sentence + "\n")
		}
	}
	return b.String()
}

func verdicts(t *testing.T, s *lb.State, packets string) string {
	var b strings.Builder
	for line := range strings.Lines(packets) {
		p, err := lbtest.ParsePacket(line)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(p.String() + " : " + eval.Eval(s, p).String() + "\n")
	}
	return b.String()
}

func TestNodePortAddresses(t *testing.T) {
	cfg := *config
	cfg.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/24")}
	w := lbtest.MustParse("node n1 192.168.0.1 10.0.0.1\nservice d/x NodePort 10.96.0.1 p:80/TCP[30001]\nslice d/x of d/x p:80/TCP 10.244.0.1=ready")
	s := lb.Compile(&cfg, w.Snapshot())
	for dst, want := range map[string]eval.Outcome{"192.168.0.1": eval.DNAT, "10.0.0.1": eval.NoService} {
		p, err := lbtest.ParsePacket("outside 9.9.9.9 -> " + dst + ":30001/TCP (this node)")
		if err != nil {
			t.Fatal(err)
		}
		if v := eval.Eval(s, p); v.Outcome != want {
			t.Errorf("%s: %s", p, v)
		}
	}
}
