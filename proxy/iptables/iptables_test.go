package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"nodelet/internal/golden"
	"nodelet/internal/netns"
	"nodelet/internal/xtables"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

var config = &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{
	netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/56"),
}}

func text(c *content) string {
	var b strings.Builder
	for i, chains := range c.chains {
		e := edit{set: chains}
		e.relink(tables[i], nil)
		e.text(&b, tables[i])
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	w := lbtest.MustParse(`node n1 192.168.0.1
service a/plain ClusterIP 10.96.0.1 p:80/TCP
slice a/plain of a/plain p:8080/TCP 10.244.0.1=ready@n1 10.244.1.1=ready@n2 10.244.1.2=ready@n2
service a/lb LoadBalancer 10.96.0.18 p:53/UDP[30053] lb=1.2.3.4 extip=5.6.7.8 external=local affinity=3h ranges=10.0.0.0/8,172.16.0.0/12
slice a/lb of a/lb p:53/UDP 10.244.1.3=ready@n2
service a/none NodePort 10.96.0.3 p:80/SCTP[30300]
service a/in ClusterIP 10.96.0.4 p:80/TCP internal=local
slice a/in of a/in p:8080/TCP 10.244.1.4=ready@n2
`)
	c := newContent(&renderer{cfg: config})
	c.advance(nil, lb.Compile(config, w.Snapshot()))
	golden.File(t, "testdata/rules.golden", text(c))
}

// line draws one change of a small world.
func line(t *rapid.T) string {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	i := pick("i", "1", "2", "3")
	switch pick("kind", "service", "slice", "slice", "delete", "node") {
	case "node":
		return "node n1 192.168.0." + i
	case "delete":
		return "delete " + pick("what", "service", "slice") + " a/" + i
	case "service":
		l := fmt.Sprintf("service a/%s %s 10.96.%s.1,fd00:96::%s p:80/%s[3000%s] lb=1.2.3.4 extip=5.6.7.%s", i,
			pick("type", "ClusterIP", "NodePort", "LoadBalancer"), i, i, pick("proto", "TCP", "UDP"), pick("np", "0", "1"), i)
		for _, o := range []string{" internal=local", " external=local", " affinity=1h", " ranges=10.0.0.0/8"} {
			if rapid.Bool().Draw(t, o) {
				l += o
			}
		}
		return l
	}
	l := fmt.Sprintf("slice a/%s of a/%s p:8080/%s", i, i, pick("proto", "TCP", "UDP"))
	for j := range rapid.IntRange(0, 3).Draw(t, "n") {
		l += fmt.Sprintf(" 10.244.%s.%d=%s@%s", i, j, pick("state", "ready", "serving", "not-ready"), pick("on", "n1", "n2"))
	}
	return l
}

// TestAdvance: the chains after any history are those made from scratch, and
// the edits on the way lead the kernel's chains there.
func TestAdvance(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		rapid.Check(t, func(t *rapid.T) {
			w := lbtest.New()
			s := lb.Compile(config, w.Snapshot())
			r := &renderer{ipv6: ipv6, cfg: config}
			c := newContent(r)
			c.advance(nil, s)
			kernel := [2]rules{maps.Clone(c.chains[0]), maps.Clone(c.chains[1])}
			for range rapid.IntRange(1, 12).Draw(t, "steps") {
				for range rapid.IntRange(1, 3).Draw(t, "lines") {
					if err := w.Apply(line(t)); err != nil {
						t.Fatal(err)
					}
				}
				next := lb.Advance(s, w.Snapshot())
				touched := c.advance(s, next)
				for i := range tables {
					e := diff(kernel[i], c.chains[i], maps.Keys(touched[i]))
					maps.Copy(kernel[i], e.set)
					for _, name := range e.remove {
						delete(kernel[i], name)
					}
				}
				s = next
				fresh := newContent(r)
				fresh.advance(nil, s)
				if d := cmp.Diff(fresh.chains, c.chains); d != "" {
					t.Fatalf("(-from scratch +advanced):\n%s\n%s", d, s)
				}
				for i := range tables {
					if d := cmp.Diff(c.chains[i], kernel[i]); d != "" {
						t.Fatalf("kernel's %s (-want +got):\n%s", tables[i], d)
					}
				}
			}
		})
	}
}

// inNamespace gives a back end in a fresh namespace.
func inNamespace(t testing.TB, v xtables.Variant) (*Backend, *netns.NS) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	b, err := New(t.Context(), Config{NetNS: ns.Fd(), IPv6: true, Variant: v})
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, ns
}

// world has Services enough that a whole write and a partial one differ.
func world(t testing.TB) (*lbtest.World, *lb.State) {
	t.Helper()
	w := lbtest.Many(40, 2)
	return w, lb.Compile(config, w.Snapshot())
}

func TestPartialWrite(t *testing.T) {
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		b, _ := inNamespace(t, v)
		w, s := world(t)
		ctx := t.Context()
		whole, err := b.Apply(ctx, s)
		if err != nil || !whole.Full {
			t.Fatal(whole, err)
		}
		if !b.Untouched(ctx) {
			t.Errorf("%s: touched though nobody was there", v)
		}
		w.Flip(3, 2) // has the resource version that Many gave, hence is none
		w.Flip(3, 2)
		s = lb.Advance(s, w.Snapshot())
		part, err := b.Apply(ctx, s)
		if err != nil || part.Full || part.Messages == 0 || part.Messages > 4 {
			t.Errorf("%s: one endpoint: %+v %v; all: %+v", v, part, err, whole)
		}
		checkRules(t, b, whole.Rules, true)
		checkRules(t, b, part.Rules, false)
		if none, err := b.Apply(ctx, s); err != nil || none.Messages != 0 {
			t.Errorf("%s: nothing changed: %+v %v", v, none, err)
		}
		fresh, err := New(ctx, b.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := fresh.Apply(ctx, s); err != nil || !r.Full || r.Messages != 0 {
			t.Errorf("%s: a restart writes %+v %v", v, r, err)
		} else {
			checkRules(t, fresh, r.Rules, false)
		}
		_ = fresh.Close()
	}
}

// checkRules holds what a round says of rules against the kernel, where no rule has come or gone since.
func checkRules(t *testing.T, b *Backend, got []lb.Rules, first bool) {
	t.Helper()
	var want []lb.Rules
	written := 0
	for _, f := range b.families {
		for _, table := range tables {
			text, err := f.bulk.Save(t.Context(), table)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, lb.Rules{Table: table, IPv6: f.ipv6, Total: strings.Count(string(text), "-A "+prefix)})
		}
	}
	for i := range got {
		written += got[i].Written
		if first != (got[i].Written == got[i].Total) {
			t.Errorf("written by a first round (%t): %+v", first, got[i])
		}
		got[i].Written = 0
	}
	if d := cmp.Diff(want, got); d != "" || !first && written > 4 {
		t.Errorf("rules (-kernel +told), %d written:\n%s", written, d)
	}
}

// TestForeignChange: what somebody did to our chains is noticed and mended,
// and what he did to his own is left alone.
func TestForeignChange(t *testing.T) {
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		for name, lines := range map[string]string{
			"chain emptied": "*nat\n:NDP-SERVICES - [0:0]\nCOMMIT\n",
			"rule added":    "*filter\n-A NDP-FIRST -j ACCEPT\nCOMMIT\n",
			"jump doubled":  "*nat\n-A PREROUTING -m comment --comment \"nodelet: Services\" -j NDP-SERVICES\nCOMMIT\n",
			"jump removed":  "*nat\n-D PREROUTING -m comment --comment \"nodelet: Services\" -j NDP-SERVICES\nCOMMIT\n",
			"chain added":   "*nat\n:NDP-C-OLD - [0:0]\n-A NDP-C-OLD -j ACCEPT\nCOMMIT\n",
		} {
			b, _ := inNamespace(t, v)
			_, s := world(t)
			ctx := t.Context()
			if _, err := b.Apply(ctx, s); err != nil {
				t.Fatal(err)
			}
			bulk := b.families[0].bulk
			if err := bulk.Restore(ctx, []byte("*nat\n:FOREIGN - [0:0]\n-A FOREIGN -j ACCEPT\n-A PREROUTING -j FOREIGN\nCOMMIT\n")); err != nil {
				t.Fatal(err)
			}
			b.Forget()
			if r, err := b.Apply(ctx, s); err != nil || r.Messages != 0 {
				t.Errorf("%s: a foreign chain: %+v %v", v, r, err)
			}
			if err := bulk.Restore(ctx, []byte(lines)); err != nil {
				t.Fatal(err)
			}
			if b.Untouched(ctx) {
				t.Errorf("%s: %s: not noticed", v, name)
			}
			b.Forget()
			if r, err := b.Apply(ctx, s); err != nil || r.Messages == 0 {
				t.Errorf("%s: %s: not mended: %+v %v", v, name, r, err)
			}
			b.Forget()
			if r, err := b.Apply(ctx, s); err != nil || r.Messages != 0 {
				t.Errorf("%s: %s: mended twice: %+v %v", v, name, r, err)
			}
			if err := b.Cleanup(ctx); err != nil {
				t.Error(err)
			}
			if out, err := bulk.Save(ctx, "nat"); err != nil || !strings.Contains(string(out), "-A PREROUTING -j FOREIGN") || strings.Contains(string(out), prefix) {
				t.Errorf("%s: after Cleanup: %v\n%s", v, err, out)
			}
		}
	}
}

func TestLockHeldByOthers(t *testing.T) {
	b, _ := inNamespace(t, xtables.Legacy)
	_, s := world(t)
	lock, err := os.OpenFile(os.Getenv("XTABLES_LOCKFILE"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	released := make(chan error, 1)
	time.AfterFunc(500*time.Millisecond, func() { released <- unix.Flock(int(lock.Fd()), unix.LOCK_UN) })
	defer func() {
		if err := <-released; err != nil { // before the file is closed
			t.Error(err)
		}
	}()
	if _, err := b.Apply(t.Context(), s); err != nil {
		t.Errorf("a lock that is given back in time: %v", err)
	}
}

// TestLockNeverReleased: the wait is bounded, the error says what to look for,
// and the change that could not be written is written by the next try.
func TestLockNeverReleased(t *testing.T) {
	b, _ := inNamespace(t, xtables.Legacy)
	w, s := world(t)
	ctx := t.Context()
	if _, err := b.Apply(ctx, s); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(os.Getenv("XTABLES_LOCKFILE"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := w.Apply("service a/new ClusterIP 10.96.0.99 p:80/TCP\nslice a/new of a/new p:8080/TCP 10.244.1.9=ready@n2"); err != nil {
		t.Fatal(err)
	}
	next := lb.Advance(s, w.Snapshot())
	if _, err := b.Apply(ctx, next); !errors.Is(err, xtables.ErrLocked) || !strings.Contains(err.Error(), "/run/xtables.lock") {
		t.Errorf("a lock that is never given back: %v", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Apply(ctx, next); err != nil || !r.Full {
		t.Fatalf("after the lock: %+v %v", r, err)
	}
	text, err := b.families[0].bulk.Save(ctx, "nat")
	if err != nil || !strings.Contains(string(text), "10.244.1.9:8080") {
		t.Errorf("the change is lost: %v\n%s", err, text)
	}
}

// TestKilledBetweenWrites: whatever was written when the daemon was killed,
// the next one brings it to the same end.
func TestKilledBetweenWrites(t *testing.T) {
	for point := range 2 {
		b, _ := inNamespace(t, xtables.Legacy)
		_, s := world(t)
		ctx := t.Context()
		if _, err := b.families[point].bulk.Save(ctx, "nat"); err != nil {
			t.Fatal(err)
		}
		all := b.families
		b.families = all[:point] // the kill comes before the next family
		if _, err := b.Apply(ctx, s); err != nil {
			t.Fatal(err)
		}
		b.families = all
		fresh, err := New(ctx, b.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fresh.Apply(ctx, s); err != nil {
			t.Error(err)
		}
		fresh.Forget()
		if r, err := fresh.Apply(ctx, s); err != nil || r.Messages != 0 {
			t.Errorf("killed after write %d: %+v %v", point, r, err)
		}
		_ = fresh.Close()
	}
}

func BenchmarkColdSync(b *testing.B) {
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		for _, n := range []int{1000, 10_000} {
			b.Run(fmt.Sprintf("%s/%dx2", v, n), func(b *testing.B) {
				back, _ := inNamespace(b, v)
				snap := lbtest.Many(n, 2).Snapshot()
				for b.Loop() {
					if _, err := back.Apply(context.Background(), lb.Compile(config, snap)); err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if err := back.Cleanup(context.Background()); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}

func BenchmarkChange(b *testing.B) {
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		for _, n := range []int{100, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", v, n), func(b *testing.B) {
				back, _ := inNamespace(b, v)
				w := lbtest.Many(n, 2)
				s := lb.Compile(config, w.Snapshot())
				if _, err := back.Apply(context.Background(), s); err != nil {
					b.Fatal(err)
				}
				var took []time.Duration
				own, programs := cpu(b, unix.RUSAGE_SELF), cpu(b, unix.RUSAGE_CHILDREN)
				for i := 0; b.Loop(); i++ {
					w.Flip(i%7, 2)
					begin := time.Now()
					s = lb.Advance(s, w.Snapshot())
					if r, err := back.Apply(context.Background(), s); err != nil || r.Full {
						b.Fatal(r, err)
					}
					took = append(took, time.Since(begin))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
				// Nearly all of a round is iptables-restore, which reads and writes the whole table.
				b.ReportMetric((cpu(b, unix.RUSAGE_SELF)-own)/float64(b.N), "own-cpu-ms/op")
				b.ReportMetric((cpu(b, unix.RUSAGE_CHILDREN)-programs)/float64(b.N), "programs-cpu-ms/op")
			})
		}
	}
}

// cpu is what this process, or the programs that it has run, have used, in milliseconds.
func cpu(b *testing.B, who int) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
}
