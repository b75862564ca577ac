package proxy

import (
	"log/slog"
	"strings"
	"testing"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// TestRefusedIsToldOnce: people hear of each Service once, of a flood only of
// the first, and of nothing while nothing changes.
func TestRefusedIsToldOnce(t *testing.T) {
	var events []string
	counted := -1
	p := &Proxy{drift: newDrift(), deps: Deps{
		Log: slog.New(slog.DiscardHandler), Metrics: Metrics{Refused: func(n int) { counted = n }},
		Event: func(about model.Key, reason, message string) {
			events = append(events, about.String()+" "+reason+": "+message)
		},
	}}
	of := func(names ...string) (out []lb.Refusal) {
		for _, n := range names {
			out = append(out, lb.Refusal{Service: model.Key{Namespace: "d", Name: n}, Port: "p", Reason: "full"})
		}
		return out
	}
	tell := func(now []lb.Refusal, want int) {
		t.Helper()
		events = nil
		p.reportRefused(now)
		if len(events) != want || counted != len(now) || len(p.Status().Refused) != len(now) {
			t.Errorf("%d refused: events %q, counted %d, status %v", len(now), events, counted, p.Status().Refused)
		}
	}
	p.engine.Store(&engine{})
	tell(nil, 0)
	tell(of("a", "b"), 3)
	if all := strings.Join(events, "\n"); !strings.Contains(all, "d/a ServiceNotProgrammed") || !strings.Contains(all, "ServiceMapFull: 2 ports") {
		t.Errorf("events:\n%s", all)
	}
	tell(of("a", "b"), 0)
	tell(of("b"), 0)
	tell(of("a", "b"), 2)
	tell(of("c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"), maxRefusedEvents+1)
	tell(nil, 0)
}
