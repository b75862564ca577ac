package nodestatus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/nodestatus/nodeplan"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// Config is what to tell, and how often. Zero durations mean upstream's.
type Config struct {
	Identity nodeplan.Identity
	Reserve  nodeplan.Reserve
	// EvictStoragePercent is the hard eviction threshold of the node's file system as a share of
	// its size; it is added to Reserve.EvictStorage.
	EvictStoragePercent int
	// KubeletRoot is on the file system that pods' local storage is on.
	KubeletRoot string
	// HostRoot is where /proc, /sys and /etc are; empty means "/".
	HostRoot string
	// Require names features that must have programmed the kernel once before the node is Ready.
	Require []Requirement
	// NoRegister: the Node object is made by somebody else, and waited for.
	NoRegister bool
	// MaxImages is how many images the status names; 0 means 50, below 0 all. NoImages: none.
	MaxImages int
	NoImages  bool
	// StatusInterval is how often the status is looked at (10 s), ReportInterval how often it is
	// written without a change (5 min), LeaseDuration how long the Lease is good for (40 s); the
	// Lease is renewed four times in it.
	StatusInterval, ReportInterval, LeaseDuration time.Duration
}

// Requirement is a feature the node is not Ready without, and what to say while it is missing.
type Requirement struct {
	Feature store.Feature
	Missing string
}

// API is what the package asks of the API server. Errors are those of k8s.io/apimachinery.
type API interface {
	GetNode(ctx context.Context, name string) (*corev1.Node, error)
	CreateNode(ctx context.Context, node *corev1.Node) (*corev1.Node, error)
	PatchNodeStatus(ctx context.Context, name string, patch []byte) (*corev1.Node, error)
	GetLease(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error)
	CreateLease(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
	UpdateLease(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
}

// Runtime is what the package asks of the container runtime.
type Runtime interface {
	Status(context.Context, *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error)
	Version(context.Context, *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error)
	ListImages(context.Context, *runtimev1.ListImagesRequest) (*runtimev1.ListImagesResponse, error)
}

// Events takes what is to be told about the node; it never blocks.
type Events interface {
	Event(ref corev1.ObjectReference, eventType, reason, message string)
}

// Deps are the seams of a NodeStatus.
type Deps struct {
	Store   *store.Store
	API     API
	Runtime Runtime
	Events  Events
	Log     *slog.Logger
	// Pressure is what the eviction part says; nil means no pressure.
	Pressure func() nodeplan.Pressure
	// Devices are the resources of device plugins; nil means that there are none.
	Devices func() []nodeplan.Device
	// ShuttingDown tells whether the machine is about to go down; nil means that it never is.
	ShuttingDown func() bool
	// Health, if not nil, takes the state of the status loop.
	Health *reconcile.Health
}

// NodeStatus keeps the API server's picture of this node.
type NodeStatus struct {
	cfg     Config
	deps    Deps
	started time.Time

	wake       chan struct{} // the status must be looked at now
	poke       chan struct{} // the runtime must be asked now
	registered chan struct{} // closed when the Node object is known

	mu      sync.Mutex
	runtime nodeplan.Runtime
	images  []corev1.ContainerImage
	uid     string // of the Node object; set before registered is closed

	// For the status loop only.
	node     *corev1.Node // as the API server last gave it
	seen     *model.Node  // the entry of the store that node was last compared with
	reported time.Time
	cordoned bool // as users were last told; false at first, as they were not
	machine  *nodeplan.Machine
}

// New checks the configuration and looks at the machine once.
func New(cfg Config, deps Deps) (*NodeStatus, error) {
	if cfg.Identity.Name == "" {
		return nil, errors.New("node status: the node has no name")
	}
	if len(cfg.Identity.IPs) == 0 {
		return nil, errors.New("node status: the node has no address: give one with --node-ip")
	}
	cfg.StatusInterval = or(cfg.StatusInterval, 10*time.Second)
	cfg.ReportInterval = or(cfg.ReportInterval, 5*time.Minute)
	cfg.LeaseDuration = or(cfg.LeaseDuration, 40*time.Second)
	if cfg.HostRoot == "" {
		cfg.HostRoot = "/"
	}
	n := &NodeStatus{
		cfg: cfg, deps: deps, started: time.Now(),
		wake: make(chan struct{}, 1), poke: make(chan struct{}, 1), registered: make(chan struct{}),
	}
	m, err := ReadMachine(cfg.HostRoot, cfg.KubeletRoot)
	if err != nil {
		return nil, err
	}
	if err := nodeplan.CheckReserve(*m, n.reserve(*m)); err != nil {
		return nil, err
	}
	n.machine = m
	return n, nil
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// Run blocks until ctx ends.
func (n *NodeStatus) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	loop := reconcile.Loop{
		Name: "node status", Store: n.deps.Store, Log: n.deps.Log,
		Relevant: n.relevant,
		Sync:     n.sync,
		Resync:   n.cfg.StatusInterval,
		Wake:     n.wake,
		Backoff:  reconcile.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second},
		Health:   n.deps.Health,
	}
	g.Go(func() error { return loop.Run(ctx) })
	g.Go(func() error { n.askRuntime(ctx); return nil })
	g.Go(func() error { n.awaitApplied(ctx); return nil })
	g.Go(func() error { n.renew(ctx); return nil })
	return g.Wait()
}

// Poke says that the runtime may have news: it has just started, or its network configuration was
// written. It never blocks and may be called at any time.
func (n *NodeStatus) Poke() { signal(n.poke) }

// Recheck says that the status may have changed, such as a pressure. It never blocks.
func (n *NodeStatus) Recheck() { signal(n.wake) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting already
	}
}

// Registered is closed when the Node object is known to exist.
func (n *NodeStatus) Registered() <-chan struct{} { return n.registered }

// Allocatable is what this node offers to pods, as the machine was at New; not for use after Run.
func (n *NodeStatus) Allocatable() corev1.ResourceList {
	return nodeplan.Allocatable(*n.machine, n.reserve(*n.machine))
}

// Enforceable is what all pods together may use, as the machine was at New; not for use after Run.
func (n *NodeStatus) Enforceable() corev1.ResourceList {
	return nodeplan.Enforceable(*n.machine, n.reserve(*n.machine))
}

// Memory is the machine's, in bytes; not for use after Run.
func (n *NodeStatus) Memory() int64 { return int64(n.machine.Memory) }
