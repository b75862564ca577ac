package server

import (
	"testing"
	"testing/synctest"
	"time"
)

// What the API server said is believed for as long as the configuration says, and no longer.
func TestBelief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reviews{tokens: map[string]string{"good": "robot"}, allowed: map[string]bool{"robot get metrics": true}}
		tokens := newTokens(r, 10*time.Second)
		access := newAccess(r, &Config{NodeName: "n", AllowedTTL: 20 * time.Second, DeniedTTL: 5 * time.Second})
		for _, test := range []struct {
			name string
			ask  func()
			ttl  time.Duration
		}{
			{"good token", func() { _, _ = tokens.identity(t.Context(), "good") }, 10 * time.Second},
			{"bad token", func() { _, _ = tokens.identity(t.Context(), "bad") }, 10 * time.Second},
			{"allowed", func() { _, _, _ = access.ask(t.Context(), identity{name: "robot"}, "get", "metrics") }, 20 * time.Second},
			{"denied", func() { _, _, _ = access.ask(t.Context(), identity{name: "robot"}, "get", "proxy") }, 5 * time.Second},
		} {
			for i, step := range []struct {
				wait time.Duration
				asks int
			}{{0, 1}, {test.ttl - time.Second, 0}, {time.Second, 1}} {
				time.Sleep(step.wait)
				test.ask()
				if n := len(r.take()); n != step.asks {
					t.Errorf("%s, step %d: asked the API server %d times, want %d", test.name, i, n, step.asks)
				}
			}
		}
	})
}
