package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"nodelet/internal/model"
	"nodelet/internal/nft"
	"nodelet/proxy/lb"
)

// ourTables are the nf_tables tables that a mode writes to: its own, or those
// that iptables-nft shares with everybody.
var ourTables = []string{"nodelet-proxy", "nat", "filter"}

// Drift is one repair of rules that somebody else had changed.
type Drift struct {
	Time time.Time `json:"time"`
	// By names who changed them, as far as the kernel tells.
	By string `json:"by"`
	// Messages were written to mend it, Took from the look to the end.
	Messages int           `json:"messages"`
	Took     time.Duration `json:"took"`
}

// drift notes who changes rules, and what was repaired.
type drift struct {
	wake chan struct{}
	// watched is closed when changes are noticed, or cannot be for now.
	watched chan struct{}

	mu sync.Mutex
	// suspects are those who changed tables of ours since the last look.
	suspects []string
	count    int
	last     *Drift
	// muted is the netlink port of the back end's changes, 0 for none; mute tells the kernel, nil before there is a watch.
	muted uint32
	mute  func(port uint32) error
}

// maxSuspects bounds the names in one report.
const maxSuspects = 4

func newDrift() *drift { return &drift{wake: make(chan struct{}, 1), watched: make(chan struct{})} }

// watch notes changes by others and asks for a look, until ctx ends. Without
// notifications there is still the resync.
func (d *drift) watch(ctx context.Context, from nft.Source, failed func(error)) {
	ready := sync.OnceFunc(func() { close(d.watched) })
	defer ready()
	from.Opened, from.Mute = ready, d.toMute
	for ctx.Err() == nil {
		err := nft.WatchChanges(ctx, from, d.changed)
		ready()
		if ctx.Err() != nil {
			return
		}
		from.Opened = func() { d.changed(nft.Change{Lost: true}) } // what happened meanwhile, nobody saw
		failed(err)
		timer := time.NewTimer(defaultResync)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// toMute takes what mutes a port, for the present one and those to come.
func (d *drift) toMute(mute func(port uint32) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mute = mute
	_ = mute(d.muted) // else what comes from there is left out here: see Source.Own
}

// muteOf has the kernel keep back the notifications of a back end's own changes: each would wake a thread
// at the very moment when the change is being made.
func (d *drift) muteOf(b Backend) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.muted = 0
	if b, ok := b.(ported); ok {
		d.muted = b.Port()
	}
	if d.mute != nil {
		_ = d.mute(d.muted) // as above; after the watch there is nothing to mute
	}
}

func (d *drift) changed(c nft.Change) {
	if !c.Lost && !slices.ContainsFunc(c.Tables, func(t nft.Table) bool { return slices.Contains(ourTables, t.Name) }) {
		return
	}
	if !c.Lost {
		d.mu.Lock()
		if by := c.By(); !slices.Contains(d.suspects, by) && len(d.suspects) < maxSuspects {
			d.suspects = append(d.suspects, by)
		}
		d.mu.Unlock()
	}
	select {
	case d.wake <- struct{}{}:
	default: // somebody will look anyway
	}
}

// looked is called after each look at the kernel.
func (d *drift) looked(repaired bool, messages int, took time.Duration) *Drift {
	d.mu.Lock()
	defer d.mu.Unlock()
	by := strings.Join(d.suspects, ", ")
	d.suspects = nil
	if !repaired {
		return nil
	}
	if by == "" {
		by = "somebody (this kernel does not tell who)"
	}
	d.count++
	d.last = &Drift{Time: time.Now(), By: by, Messages: messages, Took: took}
	return d.last
}

// repaired reports a look that found our rules changed.
func (p *Proxy) repaired(r lb.Result, took time.Duration) {
	d := p.drift.looked(r.Messages > 0 && !r.Tidy, r.Messages, took)
	if d == nil {
		return
	}
	p.deps.Log.Warn("our rules were changed: repaired", "by", d.By, "messages", d.Messages, "took", d.Took, "foreign", len(r.Gone))
	p.event(model.Key{}, "ServiceRulesChanged", fmt.Sprintf("rules of the service proxy were changed by %s; repaired in %s", d.By, d.Took.Round(time.Millisecond)))
	if f := p.deps.Metrics.Repaired; f != nil {
		f()
	}
}

// Status is what people are told of the proxy.
type Status struct {
	Choice
	// Frontends is the number of addresses and ports served.
	Frontends int `json:"frontends"`
	// Repairs counts how often rules that others had changed were put right; Last is the last time.
	Repairs int    `json:"repairs"`
	Last    *Drift `json:"lastRepair,omitempty"`
	// Draining is the mode that was switched away from, as long as connections need it.
	Draining *Draining `json:"draining,omitempty"`
	// Refused are ports of Services that found no room in the kernel, with the reason.
	Refused []string `json:"refused,omitempty"`
	// XDP are the links where packets of known connections are forwarded by XDP,
	// or should be, and XDPPackets how many were.
	XDP        []lb.Shortcut `json:"xdp,omitempty"`
	XDPPackets uint64        `json:"xdpPackets,omitempty"`
}

// Status is the present state.
func (p *Proxy) Status() Status {
	s := Status{Choice: p.Choice()}
	if state := p.state.Load(); state != nil {
		s.Frontends = state.Len()
	}
	if d := p.draining.Load(); d != nil {
		s.Draining = &d.Draining
	}
	for _, r := range p.refused.list() {
		s.Refused = append(s.Refused, r.String())
	}
	s.XDP, s.XDPPackets = p.Shortcuts()
	p.drift.mu.Lock()
	defer p.drift.mu.Unlock()
	s.Repairs, s.Last = p.drift.count, p.drift.last
	return s
}
