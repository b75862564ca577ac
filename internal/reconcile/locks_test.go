package reconcile

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

// TestLocksInAnyOrder: those that ask for the same keys in different orders all come through, one at a time.
func TestLocksInAnyOrder(t *testing.T) {
	var l Locks[string]
	var wg sync.WaitGroup
	inside := 0
	for i := range 100 {
		keys := []string{"a", "b", "a"}
		if i%2 == 0 {
			keys = []string{"b", "a"}
		}
		wg.Go(func() {
			release, err := l.Acquire(t.Context(), keys...)
			if err != nil {
				t.Error(err)
				return
			}
			inside++
			if inside != 1 {
				t.Errorf("%d hold the same locks", inside)
			}
			inside--
			release()
		})
	}
	wg.Wait()
	if len(l.held) != 0 {
		t.Errorf("remembered: %v", l.held)
	}
}

// TestLocksGiveUp: who gives up holds nothing, also none of the keys that were free.
func TestLocksGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Locks[string]
		release, err := l.Acquire(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := l.Acquire(ctx, "b", "a")
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		if free, err := l.Acquire(t.Context(), "a"); err != nil {
			t.Fatal(err)
		} else {
			free()
		}
		release()
		if len(l.held) != 0 {
			t.Errorf("remembered: %v", l.held)
		}
	})
}
