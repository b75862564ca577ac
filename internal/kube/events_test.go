package kube

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestEventRate(t *testing.T) {
	for _, test := range []struct {
		rate Rate
		want int // of three at once
	}{{Rate{}, 3}, {Rate{PerSecond: 1, Burst: 2}, 2}, {Rate{PerSecond: 1}, 1}} {
		l, got := test.rate.limiter(), 0
		for range 3 {
			if l.TryAccept() {
				got++
			}
		}
		if got != test.want {
			t.Errorf("%+v lets %d of three through at once, want %d", test.rate, got, test.want)
		}
	}
}

// Events of a burst are written behind it, but none is held for longer than the limit.
func TestEventsWaitForTheEndOfABurst(t *testing.T) {
	for _, test := range []struct {
		others int // that come after the event, 100 ms apart
		want   time.Duration
	}{{0, eventCalm}, {10, time.Second + eventCalm}, {1000, eventLimit}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s, began := eventSink{ctx: ctx, newest: &atomic.Pointer[time.Time]{}}, time.Now()
			go func() {
				for range test.others {
					select {
					case <-time.After(100 * time.Millisecond):
					case <-ctx.Done():
						return
					}
					now := time.Now()
					s.newest.Store(&now)
				}
			}()
			s.await(began)
			if took := time.Since(began); took != test.want {
				t.Errorf("%d others: it waits %s, want %s", test.others, took, test.want)
			}
		})
	}
}
