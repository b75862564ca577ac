package node

import (
	"context"
	"time"

	"nodelet/internal/footprint"
	"nodelet/internal/store"
)

// settled is how long nothing more must be on the way up before the memory of the start is given back.
const settled = time.Second

// small tells whether memory counts more than time. Zones and pod networks look
// at a Service once, when it changes; rules and the environments of pods at all of
// them, again and again.
func (c *Config) small() bool { return !c.Has(Proxy) && !c.Has(Agent) }

func (c *Config) newStore() (*store.Store, *store.Writers) {
	if c.small() {
		return store.NewPacked()
	}
	return store.New()
}

// keepSmall gives memory back once the start is over, and then at times: decoding the first lists of a
// large cluster takes several times what is kept of it, and so does writing all of it into the kernel.
// Without this the heap stays that large for minutes.
func (n *Node) keepSmall(ctx context.Context) error {
	if n.cfg.small() {
		footprint.Begin()
	}
	for snap := n.store.Snapshot(); !n.isUp(snap); snap = n.store.Snapshot() {
		select {
		case <-ctx.Done():
			return nil
		case <-snap.Changed():
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(settled):
		footprint.Settle(ctx)
	}
	return nil
}

// isUp tells whether the first lists were read, and whoever takes them up has done so.
func (n *Node) isUp(s *store.Snapshot) bool {
	return s.Services.Synced() && s.Slices.Synced() &&
		(n.proxy == nil || s.Applied[store.Proxy] > 0) && (n.dns == nil || s.Applied[store.DNS] > 0)
}
