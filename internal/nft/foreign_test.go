package nft

import (
	"context"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"nodelet/internal/netns"
)

func newNamespace(t *testing.T) *netns.NS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

func openIn(t *testing.T, ns *netns.NS) *Conn {
	t.Helper()
	conn, err := Open(Options{NetNS: ns.Fd()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestForeignChains(t *testing.T) {
	ns := newNamespace(t)
	conn := openIn(t, ns)
	run := func(args ...string) {
		t.Helper()
		if err := ns.Do(func() error { return exec.Command("nft", args...).Run() }); err != nil {
			t.Fatalf("nft %v: %v", args, err)
		}
	}
	run("add table inet other")
	run("add chain inet other forward { type filter hook forward priority 0; policy drop; }")
	run("add rule inet other forward ct state established accept")
	run("add chain inet other side")
	run("add rule inet other side accept")
	ctx, table := context.Background(), Table{Inet, "other"}
	chains, err := conn.Chains(ctx, table)
	if err != nil || len(chains) != 2 || chains[0].Base == nil || chains[0].Base.Hook != Forward || !chains[0].Base.Drop {
		t.Fatalf("chains: %+v %v", chains, err)
	}
	var tx Tx
	tx.InsertRule(table, "forward", Rule{Comment: "ours", Do: []Stmt{Accept()}})
	if err := conn.Apply(ctx, &tx); err != nil {
		t.Fatal(err)
	}
	rules, err := conn.RulesOf(ctx, table, "forward")
	if err != nil || len(rules) != 2 || rules[0].Comment != "ours" || rules[1].Comment != "" {
		t.Fatalf("rules of the chain: %+v %v", rules, err)
	}
}

// TestWatch: changes by others are told, changes by this process are not.
func TestWatch(t *testing.T) {
	ns := newNamespace(t)
	ctx, cancel := context.WithCancel(context.Background())
	events, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		ended <- ns.Do(func() error { return Watch(ctx, func() { events <- struct{}{} }) })
	}()
	other := func() {
		t.Helper()
		if err := ns.Do(func() error { return exec.Command("nft", "add table inet other; delete table inet other").Run() }); err != nil {
			t.Fatal(err)
		}
	}
	// The watcher has started when it tells of a change.
	for deadline := time.Now().Add(10 * time.Second); len(events) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no event")
		}
		other()
	}
	conn, err := Open(Options{NetNS: ns.Fd()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	other() // events are in order: after this one all earlier ones are in
	<-events
	for len(events) > 0 {
		<-events
	}
	for range 3 {
		if _, err := conn.Ensure(ctx, &Ruleset{Table: Table{Inet, "own"}}); err != nil {
			t.Fatal(err)
		}
		if err := conn.Delete(ctx, Table{Inet, "own"}); err != nil {
			t.Fatal(err)
		}
	}
	other()
	<-events
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(events) > 1 { // one may be of the change before the draining
		t.Errorf("%d events of own changes", len(events))
	}
}

// TestWatchKnowsPorts: a transaction is known by the port of the connection that made it, whatever the
// kernel says of threads: in a container it tells their numbers on the host.
func TestWatchKnowsPorts(t *testing.T) {
	ns := newNamespace(t)
	conn := openIn(t, ns)
	ctx, cancel := context.WithCancel(context.Background())
	opened, events, ended := make(chan struct{}), make(chan Change, 10), make(chan error, 1)
	asked := map[bool]int{}
	go func() {
		from := Source{NetNS: ns.Fd(), Opened: func() { close(opened) }, Own: func(port uint32) bool {
			asked[port == conn.Port()]++
			return port == conn.Port()
		}}
		ended <- WatchChanges(ctx, from, func(c Change) { events <- c })
	}()
	<-opened
	if _, err := conn.Ensure(ctx, &Ruleset{Table: Table{Inet, "own"}}); err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(func() error { return exec.Command("nft", "add table inet other").Run() }); err != nil {
		t.Fatal(err)
	}
	if c := <-events; len(c.Tables) != 1 || c.Tables[0].Name != "other" {
		t.Errorf("change of tables %v, want that of the other program", c.Tables)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if asked[true] == 0 || asked[false] == 0 || len(events) > 0 {
		t.Errorf("asked %d times for own and %d for other messages, %d events more", asked[true], asked[false], len(events))
	}
}

// TestWatchMutes: of a muted port's transactions nothing is heard, of others' and of those after it all.
func TestWatchMutes(t *testing.T) {
	ns := newNamespace(t)
	conn := openIn(t, ns)
	ctx, cancel := context.WithCancel(context.Background())
	opened, events, ended := make(chan struct{}), make(chan Change, 10), make(chan error, 1)
	var set func(port uint32) error
	var own atomic.Int64
	go func() {
		from := Source{
			NetNS: ns.Fd(), Opened: func() { close(opened) }, Mute: func(f func(uint32) error) { set = f },
			Own: func(port uint32) bool {
				if port == conn.Port() {
					own.Add(1)
				}
				return port == conn.Port()
			},
		}
		ended <- WatchChanges(ctx, from, func(c Change) { events <- c })
	}()
	<-opened
	// Notifications keep their order: what comes before another's change has been heard when that is.
	round := func(port uint32, table string) int64 {
		t.Helper()
		if err := set(port); err != nil {
			t.Fatal(err)
		}
		before := own.Load()
		if _, err := conn.Ensure(ctx, &Ruleset{Table: Table{Inet, table}}); err != nil {
			t.Fatal(err)
		}
		if err := ns.Do(func() error { return exec.Command("nft", "add table inet other-"+table).Run() }); err != nil {
			t.Fatal(err)
		}
		if c := <-events; len(c.Tables) != 1 || c.Tables[0].Name != "other-"+table {
			t.Errorf("change of tables %v, want that of the other program", c.Tables)
		}
		return own.Load() - before
	}
	if n := round(0, "first"); n == 0 {
		t.Error("own messages are not heard before they are muted")
	}
	if n := round(conn.Port(), "second"); n != 0 {
		t.Errorf("%d muted messages are heard", n)
	}
	if n := round(0, "third"); n == 0 {
		t.Error("own messages are not heard when they are muted no longer")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := set(0); err == nil {
		t.Error("a watch that has ended can be muted")
	}
}
