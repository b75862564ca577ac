package nftables

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"nodelet/internal/model"
	"nodelet/internal/nft"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

var config = &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{
	netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/56"),
}}

// inNamespace gives a back end in a fresh namespace, which ends with the test's thread.
func inNamespace(t testing.TB) *Backend {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	runtime.LockOSThread() // never unlocked
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	b, err := New(Config{IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func list(t interface{ Logf(string, ...any) }) string {
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Logf("nft list ruleset: %v", err)
		return "nft cannot list the rules: " + string(out)
	}
	return string(out)
}

// settled checks that a fresh look at the kernel finds nothing to do: what
// Apply wrote is what a restarted daemon would write.
func settled(t interface {
	Fatalf(string, ...any)
	Logf(string, ...any)
}, b *Backend, want *lb.State, when string) {
	tx := &nft.Tx{}
	for i, f := range b.families {
		found, err := b.conn.Read(context.Background(), f.table)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		c := contentOf(f, want.Config(), found)
		c.become(want)
		keepUnused(c, b.have[i])
		if err := tx.Diff(found, c.ruleset()); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	if !tx.Empty() {
		t.Fatalf("%s: a fresh look finds %d messages to write: %s\n%s\nState:\n%s", when, tx.Len(), tx, list(t), want)
	}
}

// keepUnused adds what is used no more, which may stay until the next full look.
func keepUnused(c, have *content) {
	maps.Copy(c.plans, have.plans)
	maps.Copy(c.keepers, have.keepers)
	c.dispatch = have.dispatch
}

func TestGoldenWorlds(t *testing.T) {
	b := inNamespace(t)
	files, _ := filepath.Glob("../lb/testdata/services/*.txtar")
	if len(files) == 0 {
		t.Fatal("no worlds")
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		w := lbtest.New()
		for _, f := range archive.Files {
			if f.Name == "world" {
				if err := w.Apply(string(f.Data)); err != nil {
					t.Fatal(err)
				}
			}
		}
		s := lb.Compile(config, w.Snapshot())
		// From the world before, and from nothing.
		if _, err := b.Apply(context.Background(), s); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, list(t))
		}
		settled(t, b, s, file)
		if err := b.Cleanup(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Apply(context.Background(), s); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, list(t))
		}
		settled(t, b, s, file+" from nothing")
	}
	if err := b.Cleanup(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left, err := b.Residue(context.Background()); err != nil || len(left) > 0 {
		t.Errorf("residue after Cleanup: %v, %v", left, err)
	}
}

// history draws lines over a small world; see package lb's own test for more of it.
func history(t *rapid.T) string {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	name := pick("name", "a/x", "a/y")
	ip := map[string]string{"a/x": "10.96.0.1", "a/y": "10.96.0.2,fd00:96::2"}[name]
	switch pick("kind", "slice", "slice", "slice", "service", "delete") {
	case "delete":
		return "delete " + pick("what", "service", "slice") + " " + name
	case "service":
		l := fmt.Sprintf("service %s %s %s p:80/%s[30001]", name, pick("type", "ClusterIP", "NodePort", "LoadBalancer"), ip, pick("proto", "TCP", "UDP"))
		for _, o := range []string{"internal=local", "external=local", "affinity=3h", "lb=1.1.1.1", "extip=2.2.2.2", "ranges=10.0.0.0/8,10.1.0.0/16,11.0.0.0/9"} {
			if rapid.IntRange(0, 3).Draw(t, o) == 0 {
				l += " " + o
			}
		}
		return l
	}
	l := fmt.Sprintf("slice %s of %s p:80/%s", name, name, pick("proto", "TCP", "UDP"))
	prefix := pick("family", "10.244.0.", "10.244.0.", "fd00:244::")
	for i := range 5 {
		if rapid.Bool().Draw(t, "there") {
			l += fmt.Sprintf(" %s%d=%s%s", prefix, i+1, pick("state", "ready", "serving"), pick("on", "", "@n1", "@n2"))
		}
	}
	return l
}

// TestIncrementalIsFull: after any history of small steps the kernel holds what
// a fresh look would write, and slots have not moved in between.
func TestIncrementalIsFull(t *testing.T) {
	b := inNamespace(t)
	rapid.Check(t, func(t *rapid.T) {
		w := lbtest.MustParse("node n1 192.168.0.1")
		s := lb.Compile(config, w.Snapshot())
		if _, err := b.Apply(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			l := history(t)
			if err := w.Apply(l); err != nil {
				t.Fatal(err)
			}
			s = lb.Advance(s, w.Snapshot())
			if r, err := b.Apply(context.Background(), s); err != nil || r.Full {
				t.Fatalf("%s: full=%t %v\n%s", l, r.Full, err, list(t))
			}
			settled(t, b, s, l)
		}
	})
}

func TestDriftIsRepaired(t *testing.T) {
	b, ctx := inNamespace(t), context.Background()
	w := lbtest.MustParse("node n1 192.168.0.1\nservice a/x NodePort 10.96.0.1 p:80/TCP[30001]\nslice a/x of a/x p:80/TCP 10.244.0.1=ready 10.244.0.2=ready")
	s := lb.Compile(config, w.Snapshot())
	if _, err := b.Apply(ctx, s); err != nil {
		t.Fatal(err)
	}
	if !b.Untouched(ctx) {
		t.Error("touched right after Apply")
	}
	for _, drift := range [][]string{
		{"flush", "ruleset"},
		{"flush", "chain", "ip", tableName, "services"},
		{"flush", "map", "ip", tableName, "endpoints"},
		{"delete", "table", "ip6", tableName},
		{"add", "rule", "ip", tableName, "filter-forward", "drop"},
		{"add", "table", "ip", "somebody-else"},
	} {
		if out, err := exec.Command("nft", drift...).CombinedOutput(); err != nil {
			t.Fatalf("nft %v: %v %s", drift, err, out)
		}
		if b.Untouched(ctx) {
			t.Errorf("%v: not noticed", drift)
		}
		b.Forget()
		if _, err := b.Apply(ctx, s); err != nil {
			t.Fatalf("%v: %v", drift, err)
		}
		settled(t, b, s, fmt.Sprint(drift))
		if r, err := b.applyAll(ctx, s); err != nil || r.Messages > 0 {
			t.Errorf("%v: second look writes %d messages, %v", drift, r.Messages, err)
		}
	}
	// A change that meets drift fails, and the one after it repairs.
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	_ = w.Apply("slice a/x of a/x p:80/TCP 10.244.0.1=ready")
	s = lb.Advance(s, w.Snapshot())
	if _, err := b.Apply(ctx, s); err == nil {
		t.Error("a change of a table that is gone succeeded")
	}
	if r, err := b.Apply(ctx, s); err != nil || !r.Full {
		t.Errorf("after the failure: full=%t, %v", r.Full, err)
	}
	settled(t, b, s, "after failure")
}

func TestPlaceKeepsSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (out []lb.Endpoint) {
			for _, n := range rapid.SliceOfDistinct(rapid.Uint16Range(1, 12), rapid.ID).Draw(t, label) {
				out = append(out, lb.Endpoint{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), n)})
			}
			return out
		}
		old := place(nil, draw("old"))
		want := draw("want")
		fresh := place(old, want)
		if len(fresh) != len(want) {
			t.Fatalf("%d slots for %d endpoints", len(fresh), len(want))
		}
		moved, stayed := 0, 0
		for _, w := range want {
			was, is := slotOf(old, w.AddrPort), slotOf(fresh, w.AddrPort)
			switch {
			case is < 0:
				t.Fatalf("%s has no slot", w)
			case was >= 0 && was == is:
				stayed++
			case was >= 0 && was < len(want):
				t.Fatalf("%s moved from slot %d to %d in vain", w, was, is)
			case was >= 0:
				moved++
			}
		}
		if holes := len(old) - stayed - moved; moved > max(holes, 0) {
			t.Fatalf("%d moved for %d who left", moved, holes)
		}
	})
}

func slotOf(all []netip.AddrPort, a netip.AddrPort) int {
	for i := range all {
		if all[i] == a {
			return i
		}
	}
	return -1
}

func TestElementsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := familyOf(rapid.Bool().Draw(t, "ipv6"))
		a := netip.MustParseAddr("10.1.2.3")
		if f.ipv6 {
			a = netip.MustParseAddr("fd00::1:2:3")
		}
		fe := lb.Frontend{Addr: a, Proto: model.UDP, Port: rapid.Uint16().Draw(t, "port")}
		if rapid.Bool().Draw(t, "node port") {
			fe.Addr = f.any()
		}
		if got, ok := f.decodeFrontend(frontendKey(&nft.Bulk{}, fe), fe.NodePort()); !ok || got != fe {
			t.Fatalf("frontend %v came back as %v", fe, got)
		}
		name := pool{fe, rapid.Bool().Draw(t, "local")}
		slot := rapid.IntRange(0, maxEndpoints-1).Draw(t, "slot")
		el := endpointElement(&nft.Bulk{}, name, slot, netip.AddrPortFrom(a.Prev(), 8080))
		got, gotSlot, to, ok := f.decodeEndpoint(&el, fe.NodePort())
		if !ok || got != name || gotSlot != slot || to != netip.AddrPortFrom(a.Prev(), 8080) {
			t.Fatalf("endpoint %v %d came back as %v %d %v", name, slot, got, gotSlot, to)
		}
	})
}

// TestProbeLeavesNothing: the kernel is asked for everything and keeps nothing.
func TestProbeLeavesNothing(t *testing.T) {
	b, ctx := inNamespace(t), context.Background()
	for _, ipv6 := range []bool{false, true} {
		if err := Probe(ctx, 0, ipv6); err != nil {
			t.Error(err)
		}
	}
	if tables, err := b.conn.Tables(ctx); err != nil || len(tables) > 0 {
		t.Errorf("tables after the probe: %v, %v", tables, err)
	}
}

// TestRestartKeepsSlots: a daemon without memory finds endpoints in an order
// that it would not have chosen, and leaves them there.
func TestRestartKeepsSlots(t *testing.T) {
	b, ctx := inNamespace(t), context.Background()
	w := lbtest.MustParse("node n1 192.168.0.1\nservice a/x ClusterIP 10.96.0.1 p:80/TCP\nslice a/x of a/x p:80/TCP 10.244.0.1=ready 10.244.0.2=ready 10.244.0.3=ready 10.244.0.4=ready")
	s := lb.Compile(config, w.Snapshot())
	if _, err := b.Apply(ctx, s); err != nil {
		t.Fatal(err)
	}
	_ = w.Apply("slice a/x of a/x p:80/TCP 10.244.0.1=ready 10.244.0.3=ready 10.244.0.4=ready")
	s = lb.Advance(s, w.Snapshot())
	if _, err := b.Apply(ctx, s); err != nil {
		t.Fatal(err)
	}
	slots := func() string {
		found, err := b.conn.Read(ctx, b.families[0].table)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(contentOf(b.families[0], config, found).pools)
	}
	before := slots()
	fresh, err := New(Config{IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fresh.Close() }()
	if _, err := fresh.Apply(ctx, lb.Compile(config, w.Snapshot())); err != nil {
		t.Fatal(err)
	}
	if after := slots(); after != before || !strings.Contains(before, "10.244.0.1:80 10.244.0.4:80 10.244.0.3:80") {
		t.Errorf("slots were %s, and are %s after a restart", before, after)
	}
}
