package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"nodelet/internal/conntrack"
	"nodelet/internal/model"
	"nodelet/internal/nft"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/ipvs"
	"nodelet/proxy/lb"
)

// rest is the pause after a round, as a multiple of what it took: a mode that
// rewrites all for one change (iptables) shall not take a whole processor with
// changes that never end.
const rest = 1.5

// defaultResync is how often the kernel is compared with what it should hold, as in kube-proxy.
const defaultResync = 30 * time.Second

// Config is what the operator decides.
type Config struct {
	NodeName string
	// PodCIDRs are the addresses of all pods of the cluster.
	PodCIDRs []netip.Prefix
	// Local tells the traffic of local pods, by default by PodCIDRs: traffic to
	// a ClusterIP from anywhere else is masqueraded.
	Local         lb.LocalTraffic
	MasqueradeAll bool
	// NodePortAddresses limits node ports to addresses of the node inside
	// these. A family without any has them on all addresses but loopback.
	NodePortAddresses []netip.Prefix
	// Answered are ClusterIPs at which the node answers itself, its DNS: nothing there is balanced.
	Answered []netip.Addr
	// LocalhostNodePorts serves IPv4 node ports on 127.0.0.1 too, and sets
	// the sysctl route_localnet for it.
	LocalhostNodePorts bool
	// ExternalIPRanges limits the external IPs of Services; none is no limit.
	ExternalIPRanges []netip.Prefix
	// Maglev: mode ebpf chooses endpoints for what comes by a device by Maglev
	// tables unless a Service's annotation says otherwise; MaglevSize is their
	// length, one of maglev.Sizes, 0 for the default.
	Maglev     bool
	MaglevSize int
	// MasqueradeBit is the bit of the packet mark in use, 0 to 31; nil is 14.
	MasqueradeBit *int
	// Conntrack are settings of connection tracking, made at start.
	Conntrack Conntrack
	// Mode is the back end, one of Modes; empty is Auto.
	Mode string
	// IPVS are the settings of that mode; its NetNS and IPv6 are set here.
	IPVS ipvs.Config
	// EBPF are the settings of that mode; its NetNS is set here.
	EBPF ebpf.Config
	// HealthzAddr is where /healthz and /livez are served, ":10256" by custom; empty for nowhere.
	HealthzAddr string
	// Pause is the least time between two writes to the kernel; 0 is none.
	Pause time.Duration
	// Resync is how often the kernel is looked at for changes by others; 0 is 30 s.
	Resync time.Duration
	// NetNS is a file descriptor of the network namespace; 0 is the process's own.
	NetNS int
}

// Metrics are the facts the proxy tells; each may be nil.
type Metrics struct {
	// Begun: a round of programming the kernel begins.
	Begun func()
	// Synced: it has ended.
	Synced func(Round)
	// Changed: so many Services and EndpointSlices are in the kernel by a round.
	Changed func(services, slices int)
	// Programmed: so long after its cause an EndpointSlice is in the kernel.
	Programmed func(ipv6 bool, took time.Duration)
	// Followed: so long after its event came from the API an EndpointSlice is in the kernel.
	Followed func(took time.Duration)
	// Answered: a health check was answered; name is healthz or livez, code the status.
	Answered func(name, code string)
	// Repaired: rules that somebody else had changed were put right.
	Repaired func()
	// Refused: so many ports of Services have no room in the kernel.
	Refused func(ports int)
	// Draining: so many connections still need the mode that was switched away from.
	Draining func(connections int)
	// Reconciled: stale UDP flows of a family were looked for, and so many deleted.
	Reconciled func(ipv6 bool, deleted int, took time.Duration)
}

// Deps are the seams.
type Deps struct {
	Store   *store.Store
	Log     *slog.Logger
	Metrics Metrics
	// Backend replaces the one that Config.Mode names; for tests.
	Backend Backend
	// Event tells people of trouble with a Service, or with the node when the
	// key is empty; may be nil.
	Event func(about model.Key, reason, message string)
}

// Proxy is the feature.
type Proxy struct {
	cfg     Config
	deps    Deps
	meaning *lb.Config
	flows   *conntrack.Conn
	health  reconcile.Health
	healthz net.Listener
	checks  *checks
	started time.Time
	drift   *drift
	refused refused
	// draining is the mode that was switched away from; nil when nothing needs it.
	draining atomic.Pointer[drained]
	// state is what the kernel holds; nil before the first success. taken is the snapshot it was made of.
	state atomic.Pointer[lb.State]
	taken atomic.Pointer[store.Snapshot]
	rules atomic.Pointer[[]lb.Rules]

	// changing is held while the mode changes and while other modes' leavings are
	// removed: the new mode's first rules must not be taken for such. It comes before mu.
	changing sync.Mutex
	// mu is held while the kernel is programmed and while the mode changes.
	mu     sync.Mutex
	engine atomic.Pointer[engine]
	// modes are those to choose from.
	modes []mode
	// stands is closed once the first State is in the kernel and the store says so.
	stands     chan struct{}
	standsOnce sync.Once
	// ctx is Run's; nil before and after it.
	ctx context.Context
}

// New opens the back end and the health port. It writes nothing to the kernel.
func New(ctx context.Context, cfg Config, deps Deps) (*Proxy, error) {
	if cfg.NodeName == "" {
		return nil, errors.New("make proxy: the node's name is missing")
	}
	meaning, err := cfg.meaning()
	if err != nil {
		return nil, err
	}
	p := &Proxy{cfg: cfg, deps: deps, started: time.Now(), meaning: meaning, drift: newDrift(), modes: modes(), stands: make(chan struct{})}
	e := &engine{Backend: deps.Backend, choice: Choice{Mode: cfg.Mode, IPv6: true}}
	p.checks = &checks{healthy: p.healthy, answers: func(a netip.Addr) bool {
		return len(meaning.NodePortRanges(a.Is6())) == 0 || meaning.NodePortsOn(a)
	}}
	if e.Backend == nil {
		if e.Backend, e.choice, err = open(ctx, p.modes, cfg, deps.Log); err != nil {
			return nil, err
		}
		deps.Log.Info("service proxy mode", "mode", e.choice.Mode, "why", e.choice.Why, "ipv6", e.choice.IPv6)
	}
	p.engine.Store(e)
	p.drift.muteOf(e.Backend)
	if p.flows, err = conntrack.Open(cfg.NetNS); err != nil {
		return nil, errors.Join(err, p.engine.Load().Close())
	}
	if cfg.HealthzAddr != "" {
		if p.healthz, err = net.Listen("tcp", cfg.HealthzAddr); err != nil {
			p.flows.Close()
			return nil, errors.Join(fmt.Errorf("listen for the proxy's health checks (is another kube-proxy running?): %w", err), p.engine.Load().Close())
		}
	}
	return p, nil
}

// meaning is the part of the configuration that decides what Services mean.
func (c *Config) meaning() (*lb.Config, error) {
	m := &lb.Config{
		NodeName: c.NodeName, PodCIDRs: c.PodCIDRs, Local: c.Local, MasqueradeAll: c.MasqueradeAll,
		NodePortAddresses: c.NodePortAddresses, ExternalIPRanges: c.ExternalIPRanges, LocalhostNodePorts: c.LocalhostNodePorts, Answered: c.Answered,
		Maglev: c.Maglev, MaglevSize: c.MaglevSize,
	}
	if c.MasqueradeBit != nil {
		if *c.MasqueradeBit < 0 || *c.MasqueradeBit > 31 {
			return nil, fmt.Errorf("make proxy: masquerade bit %d is none of 0 to 31", *c.MasqueradeBit)
		}
		m.MasqueradeMark = 1 << *c.MasqueradeBit
	}
	if err := m.Local.Check(); err != nil {
		return nil, fmt.Errorf("make proxy: %w", err)
	}
	return m, nil
}

// Run keeps the kernel in step with the store until ctx ends. The rules stay.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	p.begin(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		p.drift.watch(ctx, nft.Source{NetNS: p.cfg.NetNS, Own: p.owns}, func(err error) {
			p.deps.Log.Warn("service proxy: no notifications of changed rules", "err", err, "retryIn", defaultResync)
		})
	}()
	tidied := make(chan struct{})
	go func() {
		defer close(tidied)
		p.tidy(ctx)
	}()
	defer func() {
		cancel()
		<-watched
		<-tidied
		p.finish()
	}()
	p.cfg.setSysctls(p.deps.Log)
	if p.healthz != nil {
		server := &http.Server{Handler: p.healthHandler(), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(p.healthz) // ends by Close below
		}()
		defer func() {
			_ = server.Close()
			<-done
		}()
	}
	loop := &reconcile.Loop{
		Name: "proxy", Store: p.deps.Store, Log: p.deps.Log,
		Ready: func(s *store.Snapshot) bool {
			return s.Services.Synced() && s.Slices.Synced() && s.Nodes.Synced()
		},
		Relevant: func(prev, next *store.Snapshot) bool {
			return prev.Services.Last() != next.Services.Last() || prev.Slices.Last() != next.Slices.Last() ||
				prev.Nodes.Last() != next.Nodes.Last() || prev.ServiceCIDRs.Last() != next.ServiceCIDRs.Last()
		},
		Sync:   p.sync,
		Done:   p.done,
		Pause:  p.cfg.Pause,
		Rest:   rest,
		Resync: cmp.Or(p.cfg.Resync, defaultResync),
		Health: &p.health,
		Wake:   p.drift.wake,
	}
	<-p.drift.watched // or a change right after the first round could be missed
	return loop.Run(ctx)
}

// begin lets the back end follow the kernel.
func (p *Proxy) begin(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx = ctx
	p.engine.Load().start(ctx, p.notFollowed)
}

// finish lets go of everything; the rules stay.
func (p *Proxy) finish() {
	p.checks.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx = nil
	p.flows.Close()
	if err := errors.Join(p.engine.Load().end(), p.undrain()); err != nil {
		p.deps.Log.Warn("close the back end of the service proxy", "err", err)
	}
}

// sync brings the kernel from prev to next. A nil prev asks for a look at the
// kernel, unless it is certain that nobody has touched it.
func (p *Proxy) sync(ctx context.Context, prev, next *store.Snapshot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	begin := time.Now()
	if f := p.deps.Metrics.Begun; f != nil {
		f()
	}
	before := p.state.Load()
	state := before
	if state == nil {
		state = lb.Empty(p.meaning)
	}
	state = lb.Advance(state, next)
	if prev == nil && !p.engine.Load().Untouched(ctx) {
		p.engine.Load().Forget()
	}
	result, err := p.engine.Load().Apply(ctx, state)
	if err == nil {
		err = p.flush(ctx, before, state, result.Gone)
	}
	written := time.Now()
	if f := p.deps.Metrics.Synced; f != nil {
		f(Round{
			Choice: p.engine.Load().choice, Full: result.Full, Idle: prev == nil && !result.Full && err == nil,
			Took: written.Sub(begin), Err: err,
		})
	}
	if err != nil {
		return err
	}
	p.state.Store(state)
	if prev != nil || result.Full {
		p.rules.Store(&result.Rules)
	}
	if f := p.deps.Metrics.Changed; f != nil {
		f(p.Pending(next))
	}
	p.taken.Store(next)
	if before != nil && prev == nil {
		p.repaired(result, time.Since(begin))
	}
	if before == nil {
		p.deps.Log.Info("services are in the kernel", "frontends", state.Len(), "messages", result.Messages)
	}
	p.report(written, prev, next)
	p.reportRefused(result.Refused)
	p.drain(ctx, state, prev == nil)
	p.listen(state)
	return nil
}

// done tells everybody which revision the kernel holds.
func (p *Proxy) done(r store.Revision) {
	p.deps.Store.SetApplied(store.Proxy, r)
	p.standsOnce.Do(func() { close(p.stands) })
}

// listen opens and closes health check ports. A port that somebody else has is
// no reason to program the kernel again: people are told, and the next round tries again.
func (p *Proxy) listen(state *lb.State) {
	for about, err := range p.checks.apply(state) {
		p.deps.Log.Warn("health check node port", "service", about, "err", err)
		p.event(about, "FailedToStartServiceHealthcheck", err.Error())
	}
}

func (p *Proxy) event(about model.Key, reason, message string) {
	if p.deps.Event != nil {
		p.deps.Event(about, reason, message)
	}
}

// flush deletes UDP flows that are no longer right.
func (p *Proxy) flush(ctx context.Context, before, after *lb.State, gone []lb.Frontend) error {
	stale := staleFlows(before, after, gone)
	for i, any := range stale.families {
		if !any {
			continue
		}
		begin := time.Now()
		n, err := stale.flush(ctx, p.flows, after, i == 1)
		if f := p.deps.Metrics.Reconciled; f != nil {
			f(i == 1, n, time.Since(begin))
		}
		if n > 0 {
			p.deps.Log.Debug("deleted stale UDP flows", "flows", n, "ipv6", i == 1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// report tells how long changes of endpoints took until they were written.
func (p *Proxy) report(written time.Time, prev, next *store.Snapshot) {
	programmed, followed := p.deps.Metrics.Programmed, p.deps.Metrics.Followed
	if programmed == nil || followed == nil || prev == nil {
		return
	}
	for d := range next.Slices.Since(prev.Slices) {
		if !d.Is {
			continue
		}
		if !d.New.Arrived.IsZero() {
			followed(written.Sub(d.New.Arrived))
		}
		// What happened before this process was there is not its delay.
		if d.New.Triggered.After(p.started) {
			programmed(d.New.IPv6, written.Sub(d.New.Triggered))
		}
	}
}

// State is what the kernel holds; nil before the first success.
func (p *Proxy) State() *lb.State { return p.state.Load() }

// Describe lists all Services with their endpoints and why each is in or out.
func (p *Proxy) Describe() []lb.View {
	if s := p.state.Load(); s != nil {
		return s.Describe()
	}
	return nil
}

// Health is the state of the loop.
func (p *Proxy) Health() reconcile.Status { return p.health.Status() }

// HealthzAddr is where health checks are answered; nil when they are not.
func (p *Proxy) HealthzAddr() net.Addr {
	if p.healthz == nil {
		return nil
	}
	return p.healthz.Addr()
}
