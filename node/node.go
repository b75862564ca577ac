package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"nodelet/agent/timeline"
	"nodelet/cni"
	"nodelet/dns"
	"nodelet/dns/zone"
	"nodelet/internal/control"
	"nodelet/internal/kube"
	"nodelet/internal/metrics"
	"nodelet/internal/parts"
	"nodelet/internal/proc"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
	"nodelet/internal/version"
	"nodelet/node/preflight"
	"nodelet/proxy"
)

// Deps are the seams of the daemon.
type Deps struct {
	Log *slog.Logger
	// Step is told of each thing done on the way up, as format and arguments.
	Step func(format string, args ...any)
}

// Node is the daemon: everything built, nothing started.
type Node struct {
	cfg     Config
	deps    Deps
	started time.Time

	store   *store.Store
	writers *store.Writers
	client  *kube.Client
	contact *kube.Contact
	metrics *metrics.Registry

	cni   *cni.CNI
	dns   *dns.DNS
	proxy *proxy.Proxy

	// timeline has the steps of pods.
	timeline timeline.Recorder

	// runtime is set once the container runtime is up.
	runtime atomic.Pointer[containerRuntime]

	mu    sync.Mutex
	loops map[string]func() reconcile.Status
}

// New builds the store, the API client and the features that run. It writes
// nothing; the proxy tries here what the kernel can do, and takes its health port.
func New(cfg Config, deps Deps) (*Node, error) {
	n := &Node{cfg: cfg, deps: deps, started: time.Now(), loops: map[string]func() reconcile.Status{}}
	n.store, n.writers = cfg.newStore()
	var err error
	if n.client, err = cfg.client(); err != nil {
		return nil, err
	}
	n.contact = &kube.Contact{Log: deps.Log, Host: n.client.Host()}
	n.metrics = metrics.NewProcess(metrics.Build{Version: version.Kubernetes + "+nodelet", Commit: version.Version})
	for _, build := range []struct {
		component Component
		build     func() error
	}{{CNI, n.buildCNI}, {Proxy, n.buildProxy}, {DNS, n.buildDNS}} {
		if !cfg.Has(build.component) {
			continue
		}
		if err := build.build(); err != nil {
			return nil, err
		}
	}
	n.registerMetrics()
	return n, nil
}

// client reads the credentials: the kubeconfig, or those of the pod this runs in.
func (c *Config) client() (*kube.Client, error) {
	agent := "nodelet/" + version.Version
	if c.InCluster {
		return kube.LoadInCluster(c.APIServer, agent, c.Kubelet.apiRate())
	}
	return kube.Load(c.Kubeconfig, agent, c.Kubelet.apiRate())
}

// Store is what the daemon knows, for those who run it.
func (n *Node) Store() *store.Store { return n.store }

// stopLimit is how long the parts may take to end.
const stopLimit = 20 * time.Second

// Run runs the daemon until ctx ends or a part cannot go on. What it made in
// the kernel and in the runtime stays.
func (n *Node) Run(ctx context.Context) error {
	if err := n.prepare(); err != nil {
		return err
	}
	defer func() { _ = os.Remove(n.cfg.Layout.PIDFile()) }()
	routeLibraryLogs(n.deps.Log)
	g := parts.New(ctx)
	if err := n.keepIdentity(g); err != nil {
		return err
	}
	g.Go("control socket", func(ctx context.Context) error {
		return control.Serve(ctx, n.cfg.Layout.Socket(), n.api())
	})
	g.Go("reflect API", (&kube.Reflector{
		Client: n.client, Log: n.deps.Log, Node: n.cfg.NodeName, Contact: n.contact,
		Store: n.store, Writers: n.writers, Agent: n.cfg.Has(Agent),
		Always: n.cfg.alwaysRead(), PodAddrs: n.cfg.Has(DNS) && n.cfg.DNS.PodRecords == zone.PodsVerified.String(),
		ServiceCIDRs: n.cfg.Has(Proxy),
	}).Run)
	if n.cni != nil {
		g.Go("pod network", n.cni.Run)
	}
	if n.proxy != nil {
		g.Go("service proxy", n.proxy.Run)
	}
	if n.dns != nil {
		g.Go("cluster DNS", n.dns.Run)
	}
	g.Go("metrics", n.serveMetrics)
	g.Go("memory", n.keepSmall)
	if n.cfg.Has(Agent) {
		g.Go("agent", func(ctx context.Context) error { return n.runAgent(ctx, g) })
	}
	g.Go("systemd", n.notifySystemd)
	return n.tellStuck(g.Wait(stopLimit))
}

// tellStuck writes down what the parts were at that did not end. The process ends without them: whatever
// it had in hand, a killed daemon leaves no less behind, and the next one takes it up.
func (n *Node) tellStuck(err error) error {
	var stuck *parts.StuckError
	if !errors.As(err, &stuck) {
		return err
	}
	if writeErr := os.WriteFile(n.cfg.Layout.StuckFile(), stuck.Stacks, 0o600); writeErr != nil {
		return errors.Join(err, writeErr)
	}
	return fmt.Errorf("%w (what they were at: %s)", err, n.cfg.Layout.StuckFile())
}

// prepare marks the directories as ours.
func (n *Node) prepare() error {
	l := n.cfg.Layout
	for _, dir := range []string{l.Data, l.Run, l.Logs()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	n.setOOMScore()
	if err := preflight.WriteDataVersion(l.Version()); err != nil {
		return err
	}
	if err := saveConfig(n.cfg); err != nil {
		return err
	}
	if n.cfg.Has(CNI) {
		if err := n.cfg.installPlugin(); err != nil {
			return err
		}
	}
	return proc.WritePIDFile(l.PIDFile(), os.Getpid())
}

// watchHealth makes a loop visible in `nodelet status`.
func (n *Node) watchHealth(name string) *reconcile.Health {
	h := &reconcile.Health{}
	n.watchStatus(name, h.Status)
	return h
}

// watchHealthIf is watchHealth for a loop that runs only where something is configured.
func (n *Node) watchHealthIf(runs bool, name string) *reconcile.Health {
	if !runs {
		return nil
	}
	return n.watchHealth(name)
}

func (n *Node) watchStatus(name string, status func() reconcile.Status) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loops[name] = status
}
