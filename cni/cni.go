package cni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"nodelet/cni/plugin"
	"nodelet/internal/model"
	"nodelet/internal/nft"
	"nodelet/internal/nl"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// The loop looks at everything once in a while because not every drift makes
// a notification (iptables-legacy, sysctls); notifications make it look at once.
const (
	resync = 30 * time.Second
	// pause lets a burst of pod starts cost one look.
	pause = 200 * time.Millisecond
)

// Config is what the feature is told. Values only.
type Config struct {
	NodeName string
	// NodeIPs are the host's addresses towards its pods; empty: those of the Node object.
	NodeIPs []netip.Addr
	// ConfDir is the runtime's CNI configuration directory, StateDir that of
	// the attachments.
	ConfDir, StateDir string
	// ClusterCIDRs and ServiceCIDRs are reached by pods with their own address,
	// as are the pod CIDRs of all nodes.
	ClusterCIDRs, ServiceCIDRs []netip.Prefix
	// MTU of pods; 0 takes that of the uplink.
	MTU int
}

// ConfListPath is the file the runtime reads.
func (c Config) ConfListPath() string { return filepath.Join(c.ConfDir, "10-nodelet.conflist") }

// Validate names everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.NodeName == "" {
		errs = append(errs, errors.New("node name is empty"))
	}
	for name, path := range map[string]string{"configuration directory": c.ConfDir, "state directory": c.StateDir} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s %q is not an absolute path", name, path))
		}
	}
	if c.MTU != 0 && (c.MTU < 1280 || c.MTU > 65535) {
		errs = append(errs, fmt.Errorf("pod mtu %d is outside 1280 to 65535", c.MTU))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configure pod network: %w", err)
	}
	return nil
}

// Deps are the seams to the rest of the daemon.
type Deps struct {
	Store *store.Store
	Log   *slog.Logger
	// Health is told how the loop fares; may be nil.
	Health *reconcile.Health
}

// CNI is the feature.
type CNI struct {
	cfg  Config
	deps Deps
	wake chan struct{}
	// suspects are host ends of links that looked broken last time; the loop's own.
	suspects map[string]bool
	// said holds what the last sync had to say, saying what this one has; the loop's own.
	said, saying map[string]bool
	// firewallSeen is when all foreign firewalls were last found to let pods pass.
	firewallSeen time.Time
	// firewallDue: the loop will be woken for the next look.
	firewallDue bool
}

// New makes the feature; nothing is touched before Run.
func New(cfg Config, deps Deps) (*CNI, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &CNI{cfg: cfg, deps: deps, wake: make(chan struct{}, 1)}, nil
}

// Run keeps the node's pod network until ctx ends. What it made stays: pods
// go on talking without the daemon. Cleanup removes it.
func (c *CNI) Run(ctx context.Context) error {
	loop := reconcile.Loop{
		Name: "cni", Store: c.deps.Store, Log: c.deps.Log, Health: c.deps.Health,
		Ready:    func(s *store.Snapshot) bool { return s.Nodes.Synced() },
		Relevant: func(prev, next *store.Snapshot) bool { return prev.Nodes.Last() != next.Nodes.Last() },
		Sync:     func(ctx context.Context, _, next *store.Snapshot) error { return c.sync(ctx, next) },
		Done:     func(r store.Revision) { c.deps.Store.SetApplied(store.CNI, r) },
		Pause:    pause, Resync: resync, Wake: c.wake,
	}
	var all errgroup.Group
	all.Go(func() error { return c.watch(ctx) })
	all.Go(func() error { return loop.Run(ctx) })
	return all.Wait()
}

// watch wakes the loop on changes of links, addresses, routes and rules.
// Without notifications there is still the resync.
func (c *CNI) watch(ctx context.Context) error {
	var both errgroup.Group
	for _, source := range []func(context.Context, func()) error{nl.Watch, nft.Watch} {
		both.Go(func() error {
			for ctx.Err() == nil {
				if err := source(ctx, c.lookAgain); err != nil {
					c.deps.Log.Warn("pod network: no notifications of changes", "err", err, "retryIn", resync)
					sleep(ctx, resync)
				}
			}
			return nil
		})
	}
	return both.Wait()
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// sync brings the whole node in line with one snapshot. Every part is
// idempotent; a part that fails does not keep the others from being done, but
// only a sound network is announced to the runtime.
func (c *CNI) sync(ctx context.Context, snap *store.Snapshot) error {
	c.said, c.saying = c.saying, map[string]bool{}
	conn, err := nl.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	h, err := observeHost(conn)
	if err != nil {
		return err
	}
	network, ok := c.cfg.network(snap, h)
	if !ok {
		c.say(slog.LevelInfo, "waiting for a pod CIDR: node %s has none yet; the controller manager's node-ipam controller gives it one", c.cfg.NodeName)
		return nil
	}
	var nodes []*model.Node
	for _, n := range snap.Nodes.All() {
		nodes = append(nodes, n)
	}
	err = errors.Join(
		c.applySysctls(network),
		c.sweep(ctx, conn, network),
		c.applyRoutes(conn, nodes, h),
	)
	if err != nil {
		return err
	}
	// Somebody else's firewall that cannot be opened does not make the node
	// useless, and a broken iptables program less so: it is reported and tried again.
	err = c.applyFirewall(ctx, network)
	return errors.Join(err, c.announce(network))
}

// say logs a text, unless the last sync has said it too.
func (c *CNI) say(level slog.Level, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.saying[text] = true
	if !c.said[text] {
		c.deps.Log.Log(context.Background(), level, "pod network: "+text)
	}
}

// announce writes the configuration for the runtime when it differs.
func (c *CNI) announce(network plugin.Config) error {
	changed, err := writeConfList(c.cfg.ConfListPath(), network)
	if changed {
		c.deps.Log.Info("pod network is ready", "subnets", network.Subnets, "mtu", network.MTU, "nodeIPs", network.NodeIPs, "conf", c.cfg.ConfListPath())
	}
	return err
}
