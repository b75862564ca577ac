package proxy

import (
	"context"
	"time"

	"nodelet/internal/store"
	"nodelet/proxy/iptables"
	"nodelet/proxy/lb"
)

// Round is one round of programming the kernel, with both families at once.
type Round struct {
	Choice Choice
	// Full: the kernel was looked at as a whole, also where the round failed.
	Full bool
	// Idle: nothing had changed, neither in the store nor in the kernel.
	Idle bool
	Took time.Duration
	Err  error
}

// Pending counts the Services and EndpointSlices of a snapshot that are others than those in the kernel.
func (p *Proxy) Pending(s *store.Snapshot) (services, slices int) {
	taken := p.taken.Load()
	if taken == nil {
		return s.Services.Len(), s.Slices.Len()
	}
	for range s.Services.Since(taken.Services) {
		services++
	}
	for range s.Slices.Since(taken.Slices) {
		slices++
	}
	return services, slices
}

// Rules are those of mode iptables, of each family and table, as of the last round that had to do
// something; none in other modes.
func (p *Proxy) Rules() []lb.Rules {
	if rules := p.rules.Load(); rules != nil {
		return *rules
	}
	return nil
}

// RulePackets are what the constant rules of mode iptables have counted; false in other modes, and
// when they cannot be read.
func (p *Proxy) RulePackets(ctx context.Context) (iptables.Packets, bool) {
	b, ok := p.engine.Load().Backend.(*iptables.Backend)
	if !ok {
		return iptables.Packets{}, false
	}
	n, err := b.Packets(ctx)
	if err != nil {
		p.deps.Log.Warn("count the packets of iptables rules", "err", err)
	}
	return n, err == nil
}
