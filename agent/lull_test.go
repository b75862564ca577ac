package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// numbered is a runtime of which only the digest is asked.
type numbered struct {
	Runtime
	digest uint64
	err    error
}

func (n *numbered) Digest(context.Context) (uint64, error) { return n.digest, n.err }

// A relist is spared only while runtime and table are as a relist found them, and never for long.
func TestLull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, writers := store.New()
		runtime := &numbered{digest: 1}
		o := newObserver(Config{Relist: 30 * time.Second}, Deps{Store: db, Runtime: runtime})
		l := newLull(o)
		found := func(nothing bool) { l.found(db.Snapshot().Runtime, nothing) }
		expect := func(what string, want bool) {
			t.Helper()
			if got := l.lasts(t.Context(), time.Second); got != want {
				t.Errorf("%s: %t", what, got)
			}
		}
		expect("at first", false)
		found(true)
		expect("a table that is not synced", false)
		writers.Runtime.Commit(func(tx *store.Tx[model.UID, *model.PodRuntime]) { tx.Synced() })
		found(false)
		expect("after something was found", false)
		found(true)
		expect("after nothing was found", true)
		if l.lasts(t.Context(), 30*time.Second) {
			t.Error("the relist that is due in any case was spared")
		}
		runtime.digest = 2
		expect("another digest", false)
		expect("the same again, after a relist that failed", false)
		found(true)
		expect("after nothing was found again", true)
		writers.Runtime.Set("u", &model.PodRuntime{UID: "u"})
		expect("another table", false)
		found(true)
		runtime.err = errors.New("no answer")
		expect("no digest", false)
		runtime.err = nil
		expect("a digest after none", false)
		found(true)
		time.Sleep(29 * time.Second)
		expect("for long", true)
		time.Sleep(2 * time.Second)
		expect("for too long", false)
	})
}
