package stats

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/internal/cgroup"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// Config is where things are.
type Config struct {
	// KubeletRoot is on the file system that pods' local storage is on; PodLogsRoot has their logs.
	KubeletRoot, PodLogsRoot string
	// PodsCgroup is the root of all pods' cgroups, "/kubepods".
	PodsCgroup string
	// EmbeddedRuntime: the container runtime is a part of this process.
	EmbeddedRuntime bool
	// Proc is where the proc file system is; empty means /proc.
	Proc string
}

// Cgroups is what the package asks of the cgroup tree; *cgroup.Tree has it.
type Cgroups interface {
	Path(q cgroup.QoS, uid model.UID) string
	// Container is the cgroup of a container in that of its pod.
	Container(pod, id string) string
	Usage(cgroup string, now time.Time) (cgroup.Usage, error)
	WorkingSet(cgroup string) (uint64, error)
	// Process is any process in a cgroup, 0 when there is none.
	Process(cgroup string) int
}

// Runtime is what the package asks of the container runtime.
type Runtime interface {
	ListContainerStats(context.Context, *runtimev1.ListContainerStatsRequest) (*runtimev1.ListContainerStatsResponse, error)
	ImageFsInfo(context.Context, *runtimev1.ImageFsInfoRequest) (*runtimev1.ImageFsInfoResponse, error)
}

// Drivers tell how full volumes are that CSI drivers made.
type Drivers interface {
	// VolumeSpace asks for what is published at a path; false where no driver says it, and then the file system is asked.
	VolumeSpace(ctx context.Context, path string) (*Space, bool)
}

// Deps are the seams of a Stats.
type Deps struct {
	Store   *store.Store
	Cgroups Cgroups
	Runtime Runtime
	// Drivers may be nil.
	Drivers Drivers
	Log     *slog.Logger
	Health  *reconcile.Health
}

// Stats measures.
type Stats struct {
	cfg     Config
	deps    Deps
	figures *figures
}

// New measures nothing yet.
func New(cfg Config, deps Deps) *Stats {
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	return &Stats{cfg: cfg, deps: deps, figures: newFigures(deps)}
}

// Run measures what takes long, as it is asked for. It blocks until ctx ends.
func (s *Stats) Run(ctx context.Context) error { return s.figures.run(ctx, s.deps) }

// Space is what a file system has, and what somebody uses of it. Zero where it is not known.
type Space struct {
	// Device tells file systems apart; 0 when there is none.
	Device                            uint64
	At                                time.Time
	Available, Capacity, Used         uint64 // bytes
	InodesFree, InodesAll, InodesUsed uint64
}

// Interface counts the traffic of a network interface, seen from its own side.
type Interface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Node is what all of the machine uses.
type Node struct {
	At time.Time
	// Usage is nil when it could not be read.
	Usage *cgroup.Usage
	// Memory and Swap are the machine's, in bytes.
	Memory, Swap, SwapFree uint64
	Boot                   time.Time
	Interfaces             []Interface
	// Fs has pods' local storage, ImageFs the images, ContainerFs the writable layers; nil when unknown.
	Fs, ImageFs, ContainerFs *Space
	// Processes and MaxProcesses are those the kernel counts and allows.
	Processes, MaxProcesses uint64
	// System are parts of the machine by their upstream names: kubelet, runtime, pods.
	System map[string]*cgroup.Usage
}

// Pod is what one pod uses.
type Pod struct {
	Pod *corev1.Pod
	// Cgroup is its path, Sandbox its ready sandbox; nil when there is none.
	Cgroup     string
	Sandbox    *model.Sandbox
	Usage      *cgroup.Usage
	Interfaces []Interface
	Containers []Container
	Volumes    []Volume
	// Ephemeral is what it uses of local storage: writable layers, logs, volumes. Nil while one is unknown.
	Ephemeral *Space
}

// Container is what one container that runs uses.
type Container struct {
	Container *model.Container
	Cgroup    string
	Usage     *cgroup.Usage
	// Rootfs is its writable layer, Logs the directory of its logs; nil while unknown.
	Rootfs, Logs *Space
}

// Volume is what is in one volume.
type Volume struct {
	Name string
	// Claim is the name of its claim, if it has one.
	Claim string
	// Local: it takes up the node's local ephemeral storage.
	Local bool
	Space Space
}

// All is everything at once.
type All struct {
	Node Node
	Pods []Pod
	// Failed: something that runs could not be measured.
	Failed bool
}

// Depth says how much is measured.
type Depth uint8

// The depths: what cgroups tell; file systems and volumes as well; of the node, how much memory there is
// and is used, and nothing else.
const (
	Cheap Depth = iota
	Full
	Memory
)

// firstWait bounds how long Read waits for figures that were never taken before.
const firstWait = time.Second

// Read measures everything.
func (s *Stats) Read(ctx context.Context, depth Depth) All {
	now := time.Now()
	snap := s.deps.Store.Snapshot()
	all := All{Node: s.Node(ctx, depth)}
	if depth == Full {
		ctx, cancel := context.WithTimeout(ctx, firstWait)
		s.figures.await(ctx, s.wanted(snap))
		cancel()
	}
	var missing []*Container
	for uid, p := range snap.Pods.All() {
		rt, ok := snap.Runtime.Get(uid)
		if !ok {
			continue
		}
		pod := s.pod(p, rt, now)
		if len(pod.Containers) == 0 && pod.Usage == nil {
			continue
		}
		if depth == Full {
			s.storage(&pod, snap)
		}
		for i := range pod.Containers { // the backing array stays the same
			if pod.Containers[i].Usage == nil {
				missing = append(missing, &pod.Containers[i])
			}
		}
		all.Pods = append(all.Pods, pod)
	}
	all.Failed = all.Node.Usage == nil || len(missing) > 0 && !s.askUsage(ctx, missing)
	return all
}
