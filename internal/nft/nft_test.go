package nft_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/nft"
)

// inNamespace moves the test's thread into a fresh network namespace and gives
// a connection to its nf_tables. The namespace ends with the thread.
func inNamespace(t testing.TB) *nft.Conn {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test's goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs network namespaces: %v", err)
	}
	c, err := nft.Open(nft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// list prints what nft sees, to compare with and to print when a test fails.
func list(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("nft list ruleset: %v\n%s", err, out)
	}
	return string(out)
}

var table = nft.Table{Family: nft.Inet, Name: "nodelet-test"}

// sample has one of everything that cni and dns need.
func sample() *nft.Ruleset {
	pods := netip.MustParsePrefix("10.244.1.0/24")
	return &nft.Ruleset{
		Table: table,
		Sets: []nft.Set{
			{
				Name: "hostports", Key: nft.Types{nft.InetProto, nft.InetService}, Data: nft.Types{nft.IPv4Addr, nft.InetService},
				Elements: []nft.Element{{
					Key:  nft.Bytes(uint8(6), uint16(8080)),
					Data: nft.Bytes(netip.MustParseAddr("10.244.1.5"), uint16(80)),
				}},
			},
			{
				Name: "ranges", Key: nft.Types{nft.IPv4Addr}, Interval: true,
				Elements: []nft.Element{
					{Key: nft.Bytes(netip.MustParseAddr("10.0.0.0")), KeyEnd: nft.Bytes(netip.MustParseAddr("10.0.0.255"))},
					{Key: nft.Bytes(netip.MustParseAddr("10.0.1.0")), KeyEnd: nft.Bytes(netip.MustParseAddr("10.0.1.7"))},
					{Key: nft.Bytes(netip.MustParseAddr("240.0.0.0")), KeyEnd: nft.Bytes(netip.MustParseAddr("255.255.255.255"))},
				},
			},
			{
				Name: "jumps", Key: nft.Types{nft.Mark}, Data: nft.Types{nft.Verdict},
				Elements: []nft.Element{{Key: nft.Bytes(uint32(1)), Do: nft.Action{Kind: nft.DoGoto, Chain: "track"}}},
			},
		},
		Chains: []nft.Chain{
			{Name: "track", Rules: []nft.Rule{{Do: []nft.Stmt{nft.Counter(), nft.Return()}}}},
			{
				Name: "prerouting", Base: &nft.Base{Type: nft.NAT, Hook: nft.Prerouting, Priority: nft.PriorityDNAT},
				Rules: []nft.Rule{{
					Comment: "host ports",
					Do: []nft.Stmt{
						nft.IsIPv4(), nft.ToLocal(), nft.Load(0, nft.L4Proto), nft.Load(1, nft.DstPort),
						nft.Lookup("hostports", 0, 4), nft.DNATFamily(nft.IPv4, 4, 5),
					},
				}},
			},
			{
				Name: "postrouting", Base: &nft.Base{Type: nft.NAT, Hook: nft.Postrouting, Priority: nft.PrioritySNAT},
				Rules: []nft.Rule{
					{Do: []nft.Stmt{nft.IsIPv4(), nft.Is(nft.SrcAddr4, pods), nft.IsNot(nft.DstAddr4, pods), nft.Masquerade()}},
				},
			},
			{
				Name: "raw", Base: &nft.Base{Type: nft.Filter, Hook: nft.Prerouting, Priority: nft.PriorityRaw},
				Rules: []nft.Rule{
					{Do: []nft.Stmt{nft.IsIPv4(), nft.Is(nft.DstAddr4, netip.MustParseAddr("10.96.0.10")), nft.Is(nft.L4Proto, uint8(17)), nft.Is(nft.DstPort, uint16(53)), nft.Notrack()}},
				},
			},
			{
				Name: "forward", Base: &nft.Base{Type: nft.Filter, Hook: nft.Forward, Priority: nft.PriorityFilter},
				Rules: []nft.Rule{
					{Do: []nft.Stmt{nft.Is(nft.InIf, "veth*"), nft.HasBits(nft.CtState, nft.StateNew), nft.SetBits(0x4000), nft.Accept()}},
					{Do: []nft.Stmt{nft.IsIPv4(), nft.Load(0, nft.SrcAddr4), nft.Member("ranges", 0), nft.RejectPortUnreachable()}},
					{Do: []nft.Stmt{nft.Load(0, nft.PacketMark), nft.VerdictMap("jumps", 0)}},
				},
			},
		},
	}
}

func TestEnsure(t *testing.T) {
	c, ctx := inNamespace(t), context.Background()
	ensure := func(want *nft.Ruleset, expect bool) {
		t.Helper()
		changed, err := c.Ensure(ctx, want)
		if err != nil || changed != expect {
			t.Fatalf("Ensure: changed=%t (want %t), %v\n%s", changed, expect, err, list(t))
		}
	}
	want := sample()
	ensure(want, true)
	ensure(want, false)
	text := list(t)
	for _, part := range []string{
		"tcp . 8080 : 10.244.1.5 . 80", "masquerade fully-random", "notrack", "10.0.0.0/24", "240.0.0.0/4", "0x00000001 : goto track",
		`comment "host ports"`, `iifname "veth*"`, "reject", "goto track", "| 0x00004000",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("nft does not see %q in\n%s", part, text)
		}
	}
	drifts := map[string]func(){
		"rule deleted":    func() { run(t, "nft", "flush", "chain", "inet", "nodelet-test", "forward") },
		"rule added":      func() { run(t, "nft", "add", "rule", "inet", "nodelet-test", "forward", "accept") },
		"element deleted": func() { run(t, "nft", "delete", "element", "inet", "nodelet-test", "ranges", "{ 10.0.1.0/29 }") },
		"element added": func() {
			run(t, "nft", "add", "element", "inet", "nodelet-test", "hostports", "{ tcp . 1 : 1.1.1.1 . 1 }")
		},
		"chain added":     func() { run(t, "nft", "add", "chain", "inet", "nodelet-test", "foreign") },
		"set added":       func() { run(t, "nft", "add", "set", "inet", "nodelet-test", "foreign", "{ type mark; }") },
		"table asleep":    func() { run(t, "nft", "add", "table", "inet", "nodelet-test", "{ flags dormant; }") },
		"table flushed":   func() { run(t, "nft", "flush", "table", "inet", "nodelet-test") },
		"table deleted":   func() { run(t, "nft", "delete", "table", "inet", "nodelet-test") },
		"ruleset flushed": func() { run(t, "nft", "flush", "ruleset") },
		"policy changed":  func() { run(t, "nft", "add", "chain", "inet", "nodelet-test", "forward", "{ policy drop; }") },
		"anonymous set": func() {
			run(t, "nft", "add", "rule", "inet", "nodelet-test", "track", "tcp", "dport", "{ 1, 2 }", "drop")
		},
		"verdict replaced": func() { run(t, "nft", "delete", "element", "inet", "nodelet-test", "jumps", "{ 0x1 }") },
	}
	for name, drift := range drifts {
		drift()
		if changed, err := c.Ensure(ctx, want); err != nil || !changed {
			t.Errorf("%s: Ensure changed=%t, %v", name, changed, err)
		}
		if got := list(t); !sameLines(got, text) {
			t.Errorf("%s: not repaired:\n%s\nwant\n%s", name, got, text)
		}
	}
}

// sameLines compares without order: the kernel lists hash elements as it likes, and chains in order of making.
func sameLines(a, b string) bool {
	count := map[string]int{}
	for w := range strings.FieldsFuncSeq(a, func(r rune) bool { return r == '\n' || r == ',' }) {
		count[normal(w)]++
	}
	for w := range strings.FieldsFuncSeq(b, func(r rune) bool { return r == '\n' || r == ',' }) {
		count[normal(w)]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

func normal(s string) string {
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(s), "}")), "elements = {"))
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func TestErrorsNameTheObject(t *testing.T) {
	c, ctx := inNamespace(t), context.Background()
	tx := &nft.Tx{}
	tx.AddTable(table)
	tx.AddChain(table, nft.Chain{Name: "a"})
	tx.AddRule(table, "a", nft.Rule{Do: []nft.Stmt{nft.Jump("nowhere")}})
	err := c.Apply(ctx, tx)
	if err == nil || !strings.HasPrefix(err.Error(), "add rule to chain inet nodelet-test a: ") || !nft.IsNotExist(err) {
		t.Errorf("jump to a missing chain: %v", err)
	}
	if ok, err := c.HasTable(ctx, table); ok || err != nil {
		t.Errorf("a refused transaction left the table behind: %t, %v", ok, err)
	}
	tx = &nft.Tx{}
	set := &nft.Set{Name: "s", Key: nft.Types{nft.Mark}}
	tx.DeleteElements(table, set, []nft.Element{{Key: nft.Bytes(uint32(1))}})
	if err := c.Apply(ctx, tx); err == nil || !strings.Contains(err.Error(), "delete 1 elements of inet nodelet-test s") {
		t.Errorf("delete from a missing set: %v", err)
	}
	// The connection is usable after errors.
	if _, err := c.Ensure(ctx, sample()); err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	c := inNamespace(t)
	_ = c.Close()
	tx := &nft.Tx{}
	tx.AddTable(table)
	if err := c.Apply(context.Background(), tx); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("apply on a closed connection: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	c := inNamespace(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Ensure(ctx, sample()); !errors.Is(err, context.Canceled) {
		t.Errorf("Ensure with a cancelled context: %v", err)
	}
}

func TestManyElements(t *testing.T) {
	c, ctx := inNamespace(t), context.Background()
	want := &nft.Ruleset{Table: table, Sets: []nft.Set{{Name: "many", Key: nft.Types{nft.IPv4Addr, nft.InetService}, Data: nft.Types{nft.Mark}}}}
	const n = 30_000
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		want.Sets[0].Elements = append(want.Sets[0].Elements, nft.Element{Key: nft.Bytes(a, uint16(80)), Data: nft.Bytes(uint32(i))})
	}
	start := time.Now()
	if _, err := c.Ensure(ctx, want); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d elements written in %s", n, time.Since(start))
	start = time.Now()
	got, err := c.Elements(ctx, table, "many")
	if err != nil || len(got) != n {
		t.Fatalf("read back %d elements of %d: %v", len(got), n, err)
	}
	t.Logf("read back in %s", time.Since(start))
	if changed, err := c.Ensure(ctx, want); changed || err != nil {
		t.Errorf("the same again: changed=%t, %v", changed, err)
	}
}

// TestBusy makes transactions from several connections at once: each must succeed.
func TestBusy(t *testing.T) {
	inNamespace(t)
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(ns) }()
	errs := make(chan error, 4)
	for i := range cap(errs) {
		go func() {
			c, err := nft.Open(nft.Options{NetNS: ns})
			if err != nil {
				errs <- err
				return
			}
			defer func() { _ = c.Close() }()
			want := sample()
			want.Table.Name += string(rune('a' + i))
			for range 50 {
				if _, err := c.Ensure(context.Background(), want); err != nil {
					errs <- err
					return
				}
				if err := c.Delete(context.Background(), want.Table); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestGeneration(t *testing.T) {
	c, ctx := inNamespace(t), context.Background()
	before, err := c.Generation(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ensure(ctx, sample()); err != nil {
		t.Fatal(err)
	}
	after, err := c.Generation(ctx)
	if err != nil || after.ID == before.ID {
		t.Errorf("generation before %v, after %v, %v", before, after, err)
	}
}
