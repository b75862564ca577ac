package agent

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/admission"
	"nodelet/agent/podplan"
	"nodelet/agent/timeline"
	"nodelet/cri"
	"nodelet/internal/keep"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// Config is what an agent is told once.
type Config struct {
	// Settings are what plans depend on.
	Settings podplan.Settings
	// ContainerLogDir has the links to container logs that log shippers look for.
	ContainerLogDir string
	// ResolvConf is the host's resolver configuration; empty: pods with dnsPolicy Default get none.
	ResolvConf string
	// ResolvedConf is used in its place where that names only servers on the loopback; empty for none.
	ResolvedConf string
	// HostsFile is the host's own, for pods on the host's network; empty means /etc/hosts.
	HostsFile string
	// Relist is how often the whole runtime is looked at although nothing
	// happened, RelistWithoutEvents the same for a runtime that tells of no
	// events. 0 means 30 s and 1 s.
	Relist, RelistWithoutEvents time.Duration
}

// Runtime is what the agent needs of the container runtime; cri.Runtime has it.
type Runtime interface {
	Version(context.Context, *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error)
	Status(context.Context, *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error)
	Events(ctx context.Context, fn func(*runtimev1.ContainerEventResponse)) error

	RunPodSandbox(context.Context, *runtimev1.RunPodSandboxRequest) (*runtimev1.RunPodSandboxResponse, error)
	StopPodSandbox(context.Context, *runtimev1.StopPodSandboxRequest) (*runtimev1.StopPodSandboxResponse, error)
	RemovePodSandbox(context.Context, *runtimev1.RemovePodSandboxRequest) (*runtimev1.RemovePodSandboxResponse, error)
	PodSandboxStatus(context.Context, *runtimev1.PodSandboxStatusRequest) (*runtimev1.PodSandboxStatusResponse, error)
	ListPodSandbox(context.Context, *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error)
	UpdatePodSandboxResources(context.Context, *runtimev1.UpdatePodSandboxResourcesRequest) (*runtimev1.UpdatePodSandboxResourcesResponse, error)

	CreateContainer(context.Context, *runtimev1.CreateContainerRequest) (*runtimev1.CreateContainerResponse, error)
	StartContainer(context.Context, *runtimev1.StartContainerRequest) (*runtimev1.StartContainerResponse, error)
	StopContainer(context.Context, *runtimev1.StopContainerRequest) (*runtimev1.StopContainerResponse, error)
	RemoveContainer(context.Context, *runtimev1.RemoveContainerRequest) (*runtimev1.RemoveContainerResponse, error)
	UpdateContainerResources(context.Context, *runtimev1.UpdateContainerResourcesRequest) (*runtimev1.UpdateContainerResourcesResponse, error)
	ListContainers(context.Context, *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error)
	ContainerStatus(context.Context, *runtimev1.ContainerStatusRequest) (*runtimev1.ContainerStatusResponse, error)
}

// API is what the agent writes to the API server.
type API interface {
	// PatchPodStatus sends a strategic merge patch of the status.
	PatchPodStatus(ctx context.Context, key model.Key, uid model.UID, patch []byte) (*corev1.Pod, error)
	// DeletePod deletes with grace 0, if the pod still has that UID.
	DeletePod(ctx context.Context, key model.Key, uid model.UID) error
}

// Events takes what users should see; it never blocks.
type Events interface {
	Event(ref corev1.ObjectReference, eventType, reason, message string)
}

// ImageRequest asks for the image of one start of a container.
type ImageRequest struct {
	Pod       *corev1.Pod
	Container string
	Image     string
	Policy    corev1.PullPolicy
	Attempt   uint32
}

// Hook is a lifecycle handler to run for a running container.
type Hook struct {
	UID model.UID
	// Pod is nil for a container whose pod is gone from the API.
	Pod         *corev1.Pod
	Container   string
	ContainerID string
	// PodIP is empty when the pod has no address.
	PodIP   string
	Handler *corev1.LifecycleHandler
}

// SubPath asks for a part of a volume to mount.
type SubPath struct {
	UID       model.UID
	Container string
	Index     int
	Volume    string
	Path      string
}

// Metrics counts; metrics.Pods and metrics.Relist have these methods.
type Metrics interface {
	// Begun: the first round about a pod that was first seen that long ago.
	Begun(seenAgo time.Duration)
	// Started: a sandbox of a pod that was first seen that long ago.
	Started(seenAgo time.Duration)
	// Sandbox: the runtime was asked for a sandbox.
	Sandbox(handler string, took time.Duration, err error)
	// Running: all containers of a pod run for the first time, that long after its creation.
	Running(total time.Duration)
	// Ready: the same of a pod without state, without its image pulls and init containers.
	Ready(took time.Duration)
	// Container: one was started; code is empty, or why that failed.
	Container(kind, code string)
	// Synced: one round of a pod's worker.
	Synced(operation string, took time.Duration)
	// StatusWritten: the API server has a status that was due for that long.
	StatusWritten(took time.Duration)
	// Preempted: a pod must make room for a critical one that is short of that resource.
	Preempted(short string)
	// Rejected: the node does not take a pod.
	Rejected(reason string)
	// Orphaned: the runtime has a pod that nobody knows.
	Orphaned()
}

// Deps are the seams of an agent. Those that are functions may be nil where a test needs them not.
type Deps struct {
	Store  *store.Store
	Writer *store.Writer[model.UID, *model.PodRuntime]
	// Allocations is written by the agent's admission.
	Allocations *store.Writer[model.UID, *model.Allocation]
	Runtime     Runtime
	API         API
	Events      Events
	// Node tells what plans need to know of this node; the agent itself adds
	// what it learns from the runtime and from resolv.conf.
	Node func() podplan.Node
	// EnsureImage returns at once; what comes of it appears in the store.
	EnsureImage func(context.Context, ImageRequest)
	// RunHook runs a handler to its end, or to ctx's.
	RunHook func(context.Context, Hook) error
	// BindSubPath gives the place on the host that stands for a part of a volume.
	BindSubPath func(context.Context, SubPath) (string, error)
	// PreStart tells who has to prepare a container that it is about to start.
	PreStart func(ctx context.Context, uid model.UID, container string) error
	// ReleaseClaims has drivers take back what they prepared for a pod; what comes of it appears in the store.
	ReleaseClaims func(context.Context, model.UID)
	// EnsureCgroup and RemoveCgroup keep the cgroup of a pod; GrowCgroup raises
	// its limits and lowers none; CgroupPods are the pods that have one.
	EnsureCgroup, GrowCgroup func(*corev1.Pod) error
	RemoveCgroup             func(model.UID) error
	CgroupPods               func() []model.UID
	// MemoryUsage is the memory in bytes that a pod uses, or one of its containers.
	MemoryUsage func(pod *corev1.Pod, containerID string) (uint64, error)
	// Admission tells what the node has for pods.
	Admission func() admission.Node
	Metrics   Metrics
	// Keep holds for the next process what this one knows of stops, Before is
	// what the last one did, by pod UID; both may be nil.
	Keep   keep.Keeper[KeptStop]
	Before map[string]KeptStop
	// Exits tells of containers' ends before the runtime itself says so, until ctx ends; nil: nobody does.
	Exits func(ctx context.Context, fn func(cri.Exit)) error
	// Timeline takes the steps of pods; may be nil.
	Timeline *timeline.Recorder
	// Relisted is told of each full look at the runtime.
	Relisted func(now time.Time, took time.Duration)
	Log      *slog.Logger
	// Health of the loops; may be nil.
	PodsHealth, ObserveHealth, ReportHealth, AdmitHealth *reconcile.Health
}

// Agent runs the pods of this node.
type Agent struct {
	cfg  Config
	deps Deps

	notes    *notes
	observer *observer
	flights  *flights
	files    files
	reports  *reporter
	resolv   *resolvConf
	wake     chan model.UID
	// runtime is what was learnt from the runtime once.
	runtime atomic.Pointer[runtimeFacts]
}

// New makes an agent. It touches nothing yet.
func New(cfg Config, deps Deps) (*Agent, error) {
	s := &cfg.Settings
	switch {
	case !filepath.IsAbs(s.RootDir):
		return nil, errors.New("agent: the root directory must be an absolute path")
	case !filepath.IsAbs(s.PodLogDir) || !filepath.IsAbs(cfg.ContainerLogDir):
		return nil, errors.New("agent: the log directories must be absolute paths")
	case s.NodeName == "":
		return nil, errors.New("agent: the node has no name")
	case deps.Store == nil || deps.Writer == nil || deps.Allocations == nil || deps.Runtime == nil || deps.API == nil || deps.Log == nil:
		return nil, errors.New("agent: a dependency is missing")
	}
	if cfg.HostsFile == "" {
		cfg.HostsFile = "/etc/hosts"
	}
	if cfg.Relist <= 0 {
		cfg.Relist = 30 * time.Second
	}
	if cfg.RelistWithoutEvents <= 0 {
		cfg.RelistWithoutEvents = time.Second
	}
	deps.fill()
	a := &Agent{
		cfg: cfg, deps: deps,
		notes:  newNotes(deps),
		files:  files{settings: s, containerLogs: cfg.ContainerLogDir, hosts: cfg.HostsFile, log: deps.Log},
		resolv: &resolvConf{own: resolverFile{path: cfg.ResolvConf, log: deps.Log}, resolved: resolverFile{path: cfg.ResolvedConf, log: deps.Log}},
		wake:   make(chan model.UID),
	}
	a.flights = newFlights(a.wake)
	a.observer = newObserver(cfg, deps)
	a.reports = newReporter(a)
	return a, nil
}

// fill puts something that does nothing where a seam is left open.
func (d *Deps) fill() {
	if d.Events == nil {
		d.Events = silent{}
	}
	if d.Metrics == nil {
		d.Metrics = silent{}
	}
	if d.Keep == nil {
		d.Keep = keep.None[KeptStop]{}
	}
	if d.Node == nil {
		d.Node = func() podplan.Node { return podplan.Node{} }
	}
	if d.EnsureImage == nil {
		d.EnsureImage = func(context.Context, ImageRequest) {}
	}
	if d.RunHook == nil {
		d.RunHook = func(context.Context, Hook) error { return errors.New("this agent runs no hooks") }
	}
	if d.BindSubPath == nil {
		d.BindSubPath = func(context.Context, SubPath) (string, error) {
			return "", errors.New("this agent mounts no sub paths")
		}
	}
	if d.PreStart == nil {
		d.PreStart = func(context.Context, model.UID, string) error { return nil }
	}
	if d.ReleaseClaims == nil {
		d.ReleaseClaims = func(context.Context, model.UID) {}
	}
	if d.EnsureCgroup == nil {
		d.EnsureCgroup = func(*corev1.Pod) error { return nil }
	}
	if d.GrowCgroup == nil {
		d.GrowCgroup = d.EnsureCgroup
	}
	if d.MemoryUsage == nil {
		d.MemoryUsage = func(*corev1.Pod, string) (uint64, error) { return 0, nil }
	}
	if d.Admission == nil {
		d.Admission = func() admission.Node { return admission.Node{} }
	}
	if d.RemoveCgroup == nil {
		d.RemoveCgroup = func(model.UID) error { return nil }
	}
	if d.CgroupPods == nil {
		d.CgroupPods = func() []model.UID { return nil }
	}
	if d.Relisted == nil {
		d.Relisted = func(time.Time, time.Duration) {}
	}
}

type silent struct{}

func (silent) Event(corev1.ObjectReference, string, string, string) {}
func (silent) Begun(time.Duration)                                  {}
func (silent) Started(time.Duration)                                {}
func (silent) Sandbox(string, time.Duration, error)                 {}
func (silent) Running(time.Duration)                                {}
func (silent) Ready(time.Duration)                                  {}
func (silent) Container(_, _ string)                                {}
func (silent) Synced(string, time.Duration)                         {}
func (silent) StatusWritten(time.Duration)                          {}
func (silent) Preempted(string)                                     {}
func (silent) Rejected(string)                                      {}
func (silent) Orphaned()                                            {}

// Run blocks until ctx ends. Containers go on running. An agent runs once.
func (a *Agent) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	a.flights.begin(ctx)
	defer a.flights.wait()
	group.Go(func() error { return a.observe(ctx) })
	group.Go(func() error { return a.admissions().Run(ctx) })
	group.Go(func() error { return a.pods().Run(ctx) })
	group.Go(func() error { return a.reports.run(ctx) })
	return group.Wait()
}

// observe learns what the runtime is called before anything is observed, so
// that no status is ever written with ids of the wrong scheme.
func (a *Agent) observe(ctx context.Context) error {
	facts := a.observer.meet(ctx)
	if facts == nil {
		return nil
	}
	a.runtime.Store(facts)
	return a.observer.run(ctx)
}
