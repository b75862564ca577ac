package dns

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"nodelet/internal/netns/nstest"
	"nodelet/internal/nft"
	"nodelet/internal/nl"
	"nodelet/internal/store"
)

// flushedHost loses what it is given whenever somebody says so.
type flushedHost struct {
	mu           sync.Mutex
	addrs, rules bool
}

func (h *flushedHost) apply(there *bool, what string) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if *there {
		return nil, nil
	}
	*there = true
	return []string{what}, nil
}

func (h *flushedHost) flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addrs, h.rules = false, false
}

func (h *flushedHost) whole() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addrs && h.rules
}

func (h *flushedHost) Observe(context.Context) ([]string, error) { return nil, nil }
func (h *flushedHost) ApplyAddrs(context.Context) ([]string, error) {
	return h.apply(&h.addrs, "address")
}
func (h *flushedHost) ApplyRules(context.Context) ([]string, error) {
	return h.apply(&h.rules, "rules")
}
func (h *flushedHost) Remove(context.Context) error { return nil }

// TestHostIsLookedAtAgain: what somebody takes from the host is back after a look at it.
func TestHostIsLookedAtAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, _ := store.New()
		h := &flushedHost{}
		c := DefaultConfig("cluster.local", loopback())
		d, err := New(c, Deps{Store: st, Log: discard(), Host: h})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.keepHost(ctx) }()
		for range 3 {
			synctest.Wait()
			if !h.whole() {
				t.Fatal("not applied")
			}
			h.flush()
			time.Sleep(hostCheck + time.Second)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestKernelFlushed: addresses and rules that are gone, all or some, are put
// back, and what is there is left as it is.
func TestKernelFlushed(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	n := newNode(t)
	s := startSynced(t, kernelConfig())
	ask := func() {
		t.Helper()
		r, err := n.ask("udp", serviceIP, "web.default.svc.cluster.local")
		if err != nil {
			t.Fatal(err)
		}
		expect(t, r, "NOERROR 10.96.0.5")
	}
	apply := func(want ...string) {
		t.Helper()
		addrs, err := s.host.ApplyAddrs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rules, err := s.host.ApplyRules(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Concat(addrs, rules); !slices.Equal(got, want) {
			t.Errorf("put back %q, want %q", got, want)
		}
		ask()
	}
	eventually(t, "the rules", func() bool {
		left, err := s.Residue(t.Context())
		return err == nil && len(left) == 3
	})
	apply() // all is there
	lo, err := n.conn.Link("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.conn.DeleteAddr(nl.Addr{Prefix: hostPrefix(serviceIP), Link: lo.Index}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.ask("udp", serviceIP, "web.default.svc.cluster.local"); err == nil {
		t.Error("answered at an address that is gone: the test proves nothing")
	}
	apply("address 10.96.0.10 on lo")
	rules, err := nft.Open(nft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer rules.Close()
	if err := rules.Delete(t.Context(), Table()); err != nil {
		t.Fatal(err)
	}
	apply("nftables table " + Table().String())
}

// TestCaseIsGivenBack: the reply has the name as it was asked (0x20), whoever
// knows the answer: the zone, a resolver, the cache, a host entry.
func TestCaseIsGivenBack(t *testing.T) {
	up := newScript(t, address("192.0.2.1", 60))
	s := start(t, func(c *Config) { c.Upstreams, c.Corefile = resolversAt(up.addr), corefileAt })
	s.sync(clusterIP("default/web", "10.96.0.5"))
	s.load(". {\n kubernetes cluster.local\n hosts {\n 192.0.2.9 db.example.org\n fallthrough\n }\n cache 30\n forward . " + up.addr.String() + "\n}")
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{
			"wEb.DEFAULT.svc.Cluster.local.", "aBsent.Default.svc.cluster.LOCAL.", "Www.eXample.com.", "wWW.Example.COM.", "dB.Example.org.",
		} {
			m := s.ask(t, network, name, dns.TypeA)
			if m.Question[0].Name != name || len(m.Answer) > 0 && m.Answer[0].Header().Name != name {
				t.Errorf("%s over %s:\n%s", name, network, m)
			}
		}
	}
	if n := up.asked.Load(); n != 1 {
		t.Errorf("the resolver was asked %d times: case counts in the cache", n)
	}
}
