package dns

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"nodelet/dns/corefile"
	"nodelet/dns/zone"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// Config is what an operator decides.
type Config struct {
	// ListenAddrs are the addresses pods are told to ask: the cluster IP of the
	// DNS Service first.
	ListenAddrs []netip.Addr
	// Port is 53 but in tests.
	Port uint16
	// Link gets those of ListenAddrs that are not on the host yet. Empty: the
	// addresses are somebody else's work.
	Link string
	// NoTrack keeps connection tracking off the packets of ListenAddrs.
	NoTrack       bool
	ClusterDomain string
	// TTL of cluster names in seconds.
	TTL  uint32
	Pods zone.PodMode
	// Upstreams answer outside names. Empty: the name servers of ResolvConf.
	Upstreams []corefile.Upstream
	// TLSRoots check the certificates of resolvers; nil: the system's.
	TLSRoots *x509.CertPool
	// ResolvConf is read again whenever it changes. Where it names only the stub
	// of systemd-resolved, ResolvedConf has the real servers.
	ResolvConf   string
	ResolvedConf string
	// LogEvery logs one of so many queries; 0: none.
	LogEvery uint64
	// HostSearch is the host's own search path, which pods have behind the cluster's.
	HostSearch []string
	// Corefile names the ConfigMap that is read as CoreDNS's configuration; empty: none is.
	Corefile model.Key
	// XDP lets the kernel answer names of the cluster where pods' packets arrive, see package xdp.
	XDP bool
	// RoutedBy is the feature that routes what answers name; answers wait for it,
	// see order. Empty: they do not.
	RoutedBy store.Feature
	Limits   Limits
}

// Limits bound all that waits or is kept.
type Limits struct {
	// Forwards is how many questions may be on their way to resolvers at a
	// time, ClientForwards how many queries of one client may wait for them.
	Forwards       int
	ClientForwards int
	// ClientQPS is how many packets a second the kernel lets through from one
	// source outside of the host; 0 is no limit. Rules do it, so it takes Config.Link.
	ClientQPS uint32
	// CacheEntries and CacheBytes bound the cache, MaxTTL and MaxNegativeTTL
	// how long it keeps an answer whatever its TTL.
	CacheEntries   int
	CacheBytes     int
	MaxTTL         time.Duration
	MaxNegativeTTL time.Duration
	// StaleTime is how long past its end an answer may be given when no resolver answers; 0: not at all.
	StaleTime time.Duration
	// TCPConns bounds open connections, TCPClientConns those of one client,
	// TCPPipeline the queries of one connection that wait, TCPIdle its silence.
	TCPConns       int
	TCPClientConns int
	TCPPipeline    int
	TCPIdle        time.Duration
	// Timeout is how long one resolver has for one question.
	Timeout time.Duration
	// RouteWait bounds how long a new zone waits for Config.RoutedBy.
	RouteWait time.Duration
}

// DefaultConfig is the configuration for the given cluster domain and addresses.
func DefaultConfig(domain string, listen ...netip.Addr) Config {
	return Config{
		ListenAddrs: listen, Port: 53, Link: "lo", NoTrack: true, ClusterDomain: domain, TTL: 5,
		ResolvConf: "/etc/resolv.conf", ResolvedConf: "/run/systemd/resolve/resolv.conf",
		Limits: Limits{
			Forwards: 1000, ClientForwards: 200,
			// A core answers some 150,000: ten pods that flood do not fill it. CoreDNS is sold
			// at 5,000 for a whole cluster.
			ClientQPS: 15_000,
			// 30 s is the "cache 30" of kubeadm's Corefile.
			CacheEntries: 10_000, CacheBytes: 4 << 20, MaxTTL: 30 * time.Second, MaxNegativeTTL: 30 * time.Second, StaleTime: time.Hour,
			TCPConns: 500, TCPClientConns: 50, TCPPipeline: 100, TCPIdle: 10 * time.Second,
			Timeout: 2 * time.Second, RouteWait: time.Second,
		},
	}
}

// Deps are the seams.
type Deps struct {
	Store *store.Store
	Log   *slog.Logger
	// Host is what is needed of the host; nil means rtnetlink and nftables.
	Host Host
	// Holder keeps the sockets across a restart; nil: nobody does.
	Holder Holder
}

// DNS is the running feature.
type DNS struct {
	c      Config
	log    *slog.Logger
	store  *store.Store
	host   Host
	holder Holder
	health reconcile.Health

	zone atomic.Pointer[zone.Zone]
	// base is the empty zone that the zone grows from; config the last look at the
	// configuration. Both belong to the loop that keeps the zone.
	base      *zone.Zone
	config    configState
	configErr atomic.Pointer[error]
	// nil: not tried yet; pointing to nil: the sockets are open, the addresses there.
	bound, hostErr atomic.Pointer[error]
	// unreadySince is since when Ready has had an error, in unix nanoseconds.
	unreadySince atomic.Int64

	// asked counts the queries for LogEvery.
	asked atomic.Uint64
	// searching are the pods whose search path is walked here; completions bounds the walks.
	searching   atomic.Pointer[searchers]
	completions chan struct{}

	order order
	// programmed counts changes of endpoints from their cause to the new answer,
	// of those that were caused after started.
	programmed histogram
	started    time.Time
	// setupErrors count failures to have addresses and rules on the host.
	setupErrors struct{ addrs, rules atomic.Uint64 }
	// kernel is nil without Config.XDP; kernelErr is why it does not answer, when it does not.
	kernel    *inKernel
	kernelErr atomic.Pointer[error]

	chain   []step
	program atomic.Pointer[program]
	forward *forwarder
	stats   collector
	panics  panics
}

// New checks the configuration. It opens nothing.
func New(c Config, deps Deps) (*DNS, error) {
	if len(c.ListenAddrs) == 0 {
		return nil, errors.New("configure dns: no address to listen on, give the cluster IP of the DNS Service")
	}
	if i := slices.IndexFunc(c.ListenAddrs, func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() || a.IsMulticast() }); i >= 0 {
		return nil, fmt.Errorf("configure dns: cannot listen on %s, give single unicast addresses", c.ListenAddrs[i])
	}
	if i := slices.IndexFunc(c.ListenAddrs, func(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }); i >= 0 {
		return nil, fmt.Errorf("configure dns: %s means another machine on each link, give an IPv4 link-local or an IPv6 unique local address", c.ListenAddrs[i])
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultConfig("", c.ListenAddrs...).Limits
	}
	z, err := zone.New(zone.Config{Domain: c.ClusterDomain, TTL: c.TTL, Pods: c.Pods, Servers: c.ListenAddrs})
	if err != nil {
		return nil, fmt.Errorf("configure dns: %w", err)
	}
	d := &DNS{base: z, completions: make(chan struct{}, maxCompletions), c: c, log: deps.Log.With("feature", "dns"), store: deps.Store, host: deps.Host, holder: deps.Holder}
	if d.host == nil {
		d.host = newKernelHost(c)
	}
	d.zone.Store(z)
	d.started = time.Now()
	d.unreadySince.Store(d.started.UnixNano())
	d.order = order{after: c.RoutedBy, limit: c.Limits.RouteWait, store: deps.Store}
	if d.kernel, err = newInKernel(c, d); err != nil {
		return nil, fmt.Errorf("configure dns: %w", err)
	}
	d.forward = newForwarder(c, d)
	d.program.Store(d.builtin())
	d.chain = d.newChain()
	return d, nil
}

// Run serves until ctx ends, and then returns nil. An address or port that
// cannot be had is tried again, and said in Ready and the log, by whom it is taken.
func (d *DNS) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.syncLoop(ctx).Run(ctx) })
	g.Go(func() error { return d.forward.run(ctx) })
	if d.c.Link != "" {
		g.Go(func() error { return d.keepHost(ctx) })
	}
	if d.kernel != nil {
		g.Go(func() error { return d.kernel.run(ctx) })
	}
	g.Go(func() error { return d.serve(ctx) })
	return g.Wait()
}

// Ready is nil when cluster names are answered: the addresses are there, all
// sockets are open, and the zone is synced.
func (d *DNS) Ready() error {
	if err := d.bound.Load(); err == nil {
		return errors.New("dns is not listening yet")
	} else if *err != nil {
		return *err
	}
	if err := d.hostErr.Load(); d.c.Link != "" && err == nil {
		return errors.New("dns has not added its addresses yet")
	} else if err != nil && *err != nil {
		return fmt.Errorf("add dns addresses: %w", *err)
	}
	if !d.zone.Load().Synced() {
		return errors.New("dns waits for Services and EndpointSlices from the API")
	}
	return nil
}

// configProblem is what is wrong with the Corefile, nil when nothing is.
func (d *DNS) configProblem() error {
	if p := d.configErr.Load(); p != nil {
		return *p
	}
	return nil
}

// Health is the state of the loop that keeps the zone; what Ready says is its
// error, so that a port that is taken shows where people look first.
func (d *DNS) Health() reconcile.Status {
	s := d.health.Status()
	if err := d.Ready(); err != nil && !s.Waiting && s.FailingSince.IsZero() {
		s.Error = err.Error()
		s.FailingSince = time.Unix(0, d.unreadySince.Load())
	} else if err := errors.Join(d.configProblem(), d.kernelProblem()); err != nil && s.Error == "" {
		s.Error = err.Error()
		s.FailingSince = s.LastSuccess
	}
	return s
}

// Zone is the zone that is answered from.
func (d *DNS) Zone() *zone.Zone { return d.zone.Load() }
