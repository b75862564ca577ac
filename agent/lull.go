package agent

import (
	"context"
	"time"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// digester is a runtime that can stand for all its lists with one number, which costs less than they do.
type digester interface {
	Digest(context.Context) (uint64, error)
}

// lull spares relists of a runtime that tells of no events and is looked at every second: while its
// digest and the table are those of a relist that found nothing new, another would find the same.
// A relist every Config.Relist remains in any case.
type lull struct {
	o       *observer
	runtime digester // nil where there is none
	// digest is the one before the relist under way or the last one.
	digest uint64
	taken  bool
	// until is the end of the lull that a relist found, with the table as it was; zero for none.
	until time.Time
	table store.Revision
}

func newLull(o *observer) lull {
	d, _ := o.runtime.(digester)
	return lull{o: o, runtime: d}
}

// lasts reports whether a relist, of which there is one every so often, would find nothing new.
func (l *lull) lasts(ctx context.Context, every time.Duration) bool {
	if l.runtime == nil || every >= l.o.cfg.Relist {
		return false
	}
	digest, err := l.runtime.Digest(ctx)
	same := l.taken && err == nil && digest == l.digest
	l.digest, l.taken = digest, err == nil
	if same && time.Now().Before(l.until) && l.o.deps.Store.Snapshot().Runtime.Last() == l.table {
		return true
	}
	l.until = time.Time{} // the relist may fail before it finds anything
	return false
}

// found notes what the relist after the last digest came to.
func (l *lull) found(table store.Table[model.UID, *model.PodRuntime], nothing bool) {
	l.until, l.table = time.Time{}, table.Last()
	if nothing && table.Synced() {
		l.until = time.Now().Add(l.o.cfg.Relist)
	}
}
