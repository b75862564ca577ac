package dns

import (
	"context"
	"sync/atomic"
	"time"

	"nodelet/dns/zone"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// order keeps answers from running ahead of the rules that route what they
// name: an answer given at revision R is routed with revision R or later.
//
// The zone of a revision is used only once the feature that routes (the service
// proxy) says that the kernel holds that revision. The wait is bounded: a proxy
// that cannot program the kernel must not freeze names as well. Past the bound
// the zone is used all the same, and that is logged and counted.
type order struct {
	after store.Feature // empty: nobody on this node routes, or somebody else does
	limit time.Duration
	store *store.Store
	// early counts zones that were used before they were routed.
	early atomic.Uint64
}

// await blocks until r is routed, the bound has passed or ctx ends; it reports whether r is routed.
func (o *order) await(ctx context.Context, r store.Revision) bool {
	if o.after == "" {
		return true
	}
	snap := o.store.Snapshot()
	if snap.Applied[o.after] >= r {
		return true
	}
	bound := time.NewTimer(o.limit)
	defer bound.Stop()
	for ; snap.Applied[o.after] < r; snap = o.store.Snapshot() {
		select {
		case <-ctx.Done():
			return false
		case <-bound.C:
			o.early.Add(1)
			return false
		case <-snap.Changed():
		}
	}
	return true
}

// syncLoop keeps the zone in step with the store.
func (d *DNS) syncLoop(ctx context.Context) *reconcile.Loop {
	ahead := false
	await := func(r store.Revision) {
		routed := d.order.await(ctx, r)
		if !routed && !ahead && ctx.Err() == nil {
			d.log.Warn("names are answered before they are routed: the service proxy is behind", "revision", r, "waited", d.order.limit)
		}
		ahead = !routed
	}
	return &reconcile.Loop{
		Name: "dns", Store: d.store, Log: d.log, Health: &d.health,
		Ready: func(s *store.Snapshot) bool { return s.Services.Synced() && s.Slices.Synced() },
		Relevant: func(prev, next *store.Snapshot) bool {
			return prev.Services.Last() != next.Services.Last() || prev.Slices.Last() != next.Slices.Last() ||
				prev.Namespaces.Last() != next.Namespaces.Last() || prev.PodAddrs.Last() != next.PodAddrs.Last() ||
				prev.Configs.Last() != next.Configs.Last() || prev.Pods.Last() != next.Pods.Last()
		},
		Sync: func(_ context.Context, prev, next *store.Snapshot) error {
			d.configure(next)
			from := d.zone.Load()
			if !from.Grown(d.base) {
				from = d.base // the configuration of the zone has changed: all of it is compiled anew
			}
			z := from.Advance(zone.InputOf(next))
			sr := d.searchersOf(next)
			d.searching.Store(&sr)
			await(next.Revision)
			d.use(z)
			d.noteProgrammed(prev, next)
			return nil
		},
		Done: func(r store.Revision) {
			if z := d.zone.Load(); z.Revision() < r {
				await(r)
				d.use(z.At(r))
			}
			d.noteServing()
		},
	}
}

// use answers from z from now on.
func (d *DNS) use(z *zone.Zone) {
	d.advanceKernel(z)
	d.zone.Store(z)
}

// noteProgrammed counts how long after their cause changes of endpoints are
// answered by: of headless Services with a selector, as CoreDNS does. What came
// with the first list says nothing.
func (d *DNS) noteProgrammed(prev, next *store.Snapshot) {
	if prev == nil {
		return
	}
	now := time.Now()
	for c := range next.Slices.Since(prev.Slices) {
		if !c.Is || !c.New.Triggered.After(d.started) {
			continue
		}
		if svc, ok := next.Services.Get(c.New.Service); ok && svc.Headless && !svc.Selectorless {
			d.programmed.observe(now.Sub(c.New.Triggered), 1)
		}
	}
}

// noteServing is called whenever what Ready says may have changed. Once anything
// is answered it tells the store by which revision; the node is Ready after that.
func (d *DNS) noteServing() {
	if d.Ready() != nil {
		d.unreadySince.CompareAndSwap(0, time.Now().UnixNano())
		return
	}
	d.unreadySince.Store(0)
	d.store.SetApplied(store.DNS, d.zone.Load().Revision())
}
