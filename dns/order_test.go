package dns

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"nodelet/dns/zone"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// TestAnswersWaitForRoutes: a new Service is not answered before the proxy says
// that the kernel routes it, and at once then.
func TestAnswersWaitForRoutes(t *testing.T) {
	s := start(t, func(c *Config) { c.RoutedBy, c.Limits.RouteWait = store.Proxy, time.Hour })
	s.writers.Services.Replace(map[model.Key]*model.Service{})
	first := s.writers.Slices.Replace(nil)
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "SERVFAIL")
	s.store.SetApplied(store.Proxy, first)
	s.settle()
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NXDOMAIN")

	svc := clusterIP("default/web", "10.96.0.5")
	r := s.writers.Services.Set(svc.Key, svc)
	// Whatever time passes: the answer is the old one as long as the kernel is.
	for range 50 {
		expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NXDOMAIN")
	}
	s.store.SetApplied(store.Proxy, r)
	s.settle()
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
}

// TestRoutesThatNeverCome: a proxy that is stuck delays names by the bound only, and that is counted.
func TestRoutesThatNeverCome(t *testing.T) {
	s := start(t, func(c *Config) { c.RoutedBy, c.Limits.RouteWait = store.Proxy, time.Millisecond })
	s.sync(clusterIP("default/web", "10.96.0.5"))
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
	if s.order.early.Load() == 0 {
		t.Error("zones that were used before they were routed are not counted")
	}
}

// TestAnswerNeverAheadOfRoutes is the property as it is documented: whatever the
// order of commits and of the proxy's progress, at no moment is the revision
// that is answered by above the one that is routed, unless the bound has passed.
func TestAnswerNeverAheadOfRoutes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		lags := rapid.SliceOfN(rapid.IntRange(0, 5), 1, 20).Draw(rt, "milliseconds the proxy takes")
		gaps := rapid.SliceOfN(rapid.IntRange(0, 5), len(lags), len(lags)).Draw(rt, "milliseconds between changes")
		synctest.Test(t, func(t *testing.T) {
			st, w := store.New()
			z, err := zone.New(zone.Config{Domain: "cluster.local", TTL: 5})
			if err != nil {
				t.Fatal(err)
			}
			d := &DNS{base: z, store: st, log: discard(), order: order{after: store.Proxy, limit: time.Hour, store: st}}
			d.zone.Store(z)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go d.syncLoop(ctx).Run(ctx)
			var behind atomic.Int64
			go func() { // the proxy: one round after the other, each with its own time
				for i := 0; ctx.Err() == nil; i++ {
					snap := st.Snapshot()
					time.Sleep(time.Duration(lags[i%len(lags)]) * time.Millisecond)
					st.SetApplied(store.Proxy, snap.Revision)
					if st.Snapshot().Revision == snap.Revision {
						select {
						case <-st.Snapshot().Changed():
						case <-ctx.Done():
						}
					}
				}
			}()
			w.Slices.Replace(nil)
			w.Services.Replace(nil)
			for i, gap := range gaps {
				svc := clusterIP("default/web", "10.96.0.5")
				svc.Ports[0].Port = uint16(i + 1)
				w.Services.Set(svc.Key, svc)
				for range gap + 1 {
					time.Sleep(time.Millisecond)
					if at, routed := d.zone.Load().Revision(), st.Snapshot().Applied[store.Proxy]; d.zone.Load().Synced() && at > routed {
						behind.Add(1)
					}
				}
			}
			time.Sleep(time.Second)
			if n := behind.Load(); n > 0 {
				rt.Errorf("%d times an answer was ahead of its routes", n)
			}
			if at, want := d.zone.Load().Revision(), st.Snapshot().Revision; at != want {
				rt.Errorf("in the end the zone is at %d, the store at %d", at, want)
			}
		})
	})
}

// TestProgrammingDuration: a change of a headless Service's endpoints is counted
// from its cause on; what was there at the start, and others' changes, are not.
func TestProgrammingDuration(t *testing.T) {
	s := start(t, nil)
	svc, sl := headless("default/db", 2)
	sl.Triggered = time.Now().Add(-time.Hour)
	s.writers.Slices.Replace(map[model.Key]*model.Slice{sl.Key: sl})
	own, other := headless("default/own", 1)
	own.Selectorless = true
	s.writers.Services.Replace(map[model.Key]*model.Service{svc.Key: svc, own.Key: own})
	s.settle()
	for _, o := range []*model.Slice{sl, other} {
		next := *o
		next.Triggered = time.Now()
		s.writers.Slices.Set(next.Key, &next)
	}
	s.settle()
	if d := s.Stats().Programmed; d.Count != 1 || d.Sum <= 0 || d.Sum > 60 {
		t.Errorf("counted %+v", d)
	}
}
