package node

import (
	"context"
	"runtime/debug"
	"time"
)

// settled is how long the API's tables must be left alone before the memory of
// their first lists is given back: decoding a large cluster takes several times
// what is kept of it, and without this the heap stays that large for minutes.
const settled = time.Second

// giveBackMemory returns once the first lists have been read and their garbage is gone.
func (n *Node) giveBackMemory(ctx context.Context) error {
	for snap := n.store.Snapshot(); !snap.Services.Synced() || !snap.Slices.Synced(); snap = n.store.Snapshot() {
		select {
		case <-ctx.Done():
			return nil
		case <-snap.Changed():
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(settled):
		debug.FreeOSMemory()
	}
	return nil
}
