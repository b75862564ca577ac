package parts

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func untilDone(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestTheEndIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := New(ctx)
	g.Go("a", untilDone)
	within := g.Within(ctx, "b")
	within.Go("c", untilDone)
	g.Go("b", func(context.Context) error { return within.Wait(time.Minute) })
	cancel()
	if err := g.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstFailureEndsAllAndSaysWhere(t *testing.T) {
	broken := errors.New("broken")
	g := New(t.Context())
	g.Go("a", untilDone)
	g.Go("b", func(ctx context.Context) error {
		within := g.Within(ctx, "b")
		within.Go("c", func(context.Context) error { return broken })
		within.Go("d", untilDone)
		return within.Wait(time.Minute)
	})
	if err := g.Wait(time.Minute); !errors.Is(err, broken) || err.Error() != "b: c: broken" {
		t.Fatal(err)
	}
}

func TestAPartThatDoesNotEndIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := New(ctx)
		release := make(chan struct{})
		g.Go("fine", untilDone)
		g.Go("agent", func(ctx context.Context) error {
			within := g.Within(ctx, "agent")
			within.Go("fine too", untilDone)
			within.Go("hangs", func(context.Context) error { <-release; return nil })
			return within.Wait(time.Minute)
		})
		cancel()
		begun := time.Now()
		var stuck *StuckError
		if err := g.Wait(20 * time.Second); !errors.As(err, &stuck) {
			t.Fatalf("got %v", err)
		}
		if !slices.Equal(stuck.Parts, []string{"agent", "agent/hangs"}) || time.Since(begun) != 20*time.Second {
			t.Errorf("after %s: %s", time.Since(begun), stuck)
		}
		if !strings.Contains(string(stuck.Stacks), "TestAPartThatDoesNotEndIsNamed") {
			t.Error("no stack of the part that hangs")
		}
		close(release)
	})
}

// A failure is not forgotten because another part hangs, nor does it stay within its own group.
func TestAFailureIsToldThoughAnotherPartHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		release := make(chan struct{})
		g := New(t.Context())
		g.Go("fine", untilDone)
		g.Go("agent", func(ctx context.Context) error {
			within := g.Within(ctx, "agent")
			within.Go("fails", func(context.Context) error { return broken })
			within.Go("hangs", func(context.Context) error { <-release; return nil })
			return within.Wait(25 * time.Second)
		})
		err := g.Wait(20 * time.Second)
		if !errors.Is(err, broken) || err.Error() != "agent: fails: broken; after it not ended within 25s: agent/hangs" {
			t.Errorf("got %v", err)
		}
		close(release)
	})
}
