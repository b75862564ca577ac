package nftables

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// mortal is a context that ends before the exchange with the kernel of that
// number: what a daemon that is killed then has not done. Each exchange is one
// system call, which the kernel does as a whole.
type mortal struct {
	context.Context
	left *int
}

func (m mortal) Err() error {
	if *m.left <= 0 {
		return context.Canceled
	}
	*m.left--
	return nil
}

// says tells whether the kernel holds what a State says, in both families.
func says(t *rapid.T, b *Backend, s *lb.State) bool {
	for _, f := range b.families {
		k, err := b.ReadBack(context.Background(), s, lb.Frontend{Addr: f.any(), Proto: model.TCP, Port: 1})
		if err != nil {
			t.Fatal(err)
		}
		if len(k.Differences)+k.Elsewhere > 0 {
			return false
		}
	}
	return true
}

// TestKilledBetweenWrites: whenever the daemon is killed, the kernel holds the
// State before or the one after and nothing in between, and a daemon without
// memory goes on from there.
func TestKilledBetweenWrites(t *testing.T) {
	heir, ctx := inNamespace(t), context.Background()
	apply := func(t *rapid.T, ctx context.Context, b *Backend, s *lb.State) error {
		_, err := b.Apply(ctx, s)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("%v\n%s", err, list(t))
		}
		return err
	}
	rapid.Check(t, func(t *rapid.T) {
		w := lbtest.MustParse("node n1 192.168.0.1")
		world := func(label string) *lb.State {
			for range rapid.IntRange(1, 5).Draw(t, label) {
				if err := w.Apply(history(t)); err != nil {
					t.Fatal(err)
				}
			}
			return lb.Compile(config, w.Snapshot())
		}
		before, after := world("lines before"), world("lines after")
		knows := rapid.Bool().Draw(t, "knows what the kernel holds")
		for writes, alive := 0, false; !alive; writes++ {
			heir.Forget()
			_ = apply(t, ctx, heir, before)
			victim, err := New(Config{IPv6: true})
			if err != nil {
				t.Fatal(err)
			}
			if knows {
				_ = apply(t, ctx, victim, before)
			}
			left := writes
			alive = apply(t, mortal{ctx, &left}, victim, after) == nil
			_ = victim.Close()
			if !says(t, heir, before) && !says(t, heir, after) {
				t.Fatalf("killed before exchange %d: the kernel holds neither\n%s", writes, list(t))
			}
			heir.Forget()
			_ = apply(t, ctx, heir, after)
			settled(t, heir, after, "after the one that was killed")
		}
	})
}

// TestRefusedBatch: one element that is not as we think refuses the whole
// transaction; the error names it, nothing was changed, and the next one
// writes what differs.
func TestRefusedBatch(t *testing.T) {
	b, ctx := inNamespace(t), context.Background()
	w := lbtest.MustParse("node n1 192.168.0.1\n" +
		"service a/x ClusterIP 10.96.0.1 p:80/TCP\nslice a/x of a/x p:80/TCP 10.244.0.1=ready 10.244.0.2=ready\n" +
		"service a/y ClusterIP 10.96.0.2 p:80/TCP\nslice a/y of a/y p:80/TCP 10.244.0.3=ready 10.244.0.4=ready")
	s := lb.Compile(config, w.Snapshot())
	if _, err := b.Apply(ctx, s); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("nft", "delete", "element", "ip", tableName, setEndpoints, "{ 1 . 10.96.0.2 . tcp . 80 }").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	before := list(t)
	_ = w.Apply("slice a/x of a/x p:80/TCP 10.244.1.1=ready 10.244.1.2=ready\nslice a/y of a/y p:80/TCP 10.244.1.3=ready 10.244.1.4=ready")
	next := lb.Advance(s, w.Snapshot())
	_, err := b.Apply(ctx, next)
	if err == nil || !strings.Contains(err.Error(), "delete element 1 . 10.96.0.2 . 6 . 80 of ip nodelet-proxy endpoints") {
		t.Errorf("a transaction with an element that is gone: %v", err)
	}
	if after := list(t); after != before {
		t.Errorf("a refused transaction changed the kernel:\n%s\nbefore:\n%s", after, before)
	}
	if r, err := b.Apply(ctx, next); err != nil || !r.Full {
		t.Errorf("the next: full=%t, %v", r.Full, err)
	}
	settled(t, b, next, "after the refusal")
}
