package podplan

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// Facts is all that Make looks at.
type Facts struct {
	UID   model.UID
	World *store.Snapshot
	Node  Node
	// Settings are fixed for the life of the daemon.
	Settings *Settings
	Notes    Notes
}

// Settings is the part of the agent's configuration that plans depend on.
type Settings struct {
	NodeName string
	// RootDir has pods/<uid>/ with the files of each pod (the kubelet's root directory).
	RootDir string
	// PodLogDir has <namespace>_<name>_<uid>/<container>/<restart>.log.
	PodLogDir string
	// CgroupRoot is the cgroup of all pods, "/kubepods" by default.
	CgroupRoot string
	// SystemdCgroups: cgroup parents are given as slices to a runtime that uses the systemd driver.
	SystemdCgroups bool
	ClusterDNS     []netip.Addr
	ClusterDomain  string
	// SeccompRoot has the profiles of type Localhost; SeccompDefault makes RuntimeDefault the default.
	SeccompRoot    string
	SeccompDefault bool
	// SandboxSeccomp is the file with the profile of sandboxes; empty for the runtime's default.
	SandboxSeccomp string
	// StaticCPUs: containers of Guaranteed pods that ask for whole CPUs have them to themselves.
	StaticCPUs bool
	// NoCPUQuota: CPU limits are not enforced. CPUQuotaPeriod is the period that they are for; 0 means 100 ms.
	NoCPUQuota     bool
	CPUQuotaPeriod time.Duration
	// MaxBackOff bounds CrashLoopBackOff; 0 means 5 min.
	MaxBackOff time.Duration
}

// Node is what plans need to know of this node.
type Node struct {
	// IPs of the node, primary first, at most one per family.
	IPs []netip.Addr
	// Allocatable stands in for missing limits in resourceFieldRef.
	Allocatable corev1.ResourceList
	// MemoryBytes is the memory of the machine, for oom_score_adj.
	MemoryBytes int64
	// Swap is the machine's.
	Swap Swap
	// OOMGroup: with one process of a container the kernel kills all (memory.oom.group of cgroup v2).
	OOMGroup bool
	// DNS is the host's resolver configuration.
	DNS DNS
	// RuntimeName is the scheme of container ids: "containerd".
	RuntimeName string
	// Handlers of the runtime by name, as far as it tells of them; "" is the default one.
	Handlers map[string]Handler
	// IDsPerPod is how many users a pod with a user namespace of its own has.
	IDsPerPod uint32
	// SharedCPUs are those of containers that have none to themselves; empty: all.
	SharedCPUs string
	// MaskedPaths are paths of this machine to mask beside the usual ones.
	MaskedPaths []string
}

// Handler is what a handler of the runtime can do.
type Handler struct {
	// RecursiveReadOnly: it makes mounts read-only recursively.
	RecursiveReadOnly bool
	// UserNamespaces: it gives pods user namespaces, with volumes mapped.
	UserNamespaces bool
}

// Notes is what this process remembers of a pod. It may forget all of it at
// any time: a grace period then starts anew, a hook runs again, a failed call is retried at once.
type Notes struct {
	// Stopping is since when the pod as a whole is being stopped; zero when it is not.
	Stopping time.Time
	// Containers by their id in the runtime.
	Containers map[string]ContainerNote
	// Failures by container name; "" is the sandbox.
	Failures map[string]Failure
	// Cgroup is what the pod's cgroup was last set to (see CgroupOf); empty: not by this process.
	Cgroup string
	// Resize is the last attempt to bring the limits of a running pod to what it was granted, if that failed.
	Resize Failure
}

// ContainerNote is what this process remembers of one container.
type ContainerNote struct {
	// Stopping is when the first step to stop this container was taken.
	Stopping time.Time
	// PreStopDone: its preStop hook has ended, well or not.
	PreStopDone bool
	// PostStart: its postStart hook is under way.
	PostStart bool
	// Resized is what its limits were last changed to; for runtimes that do not tell what they are.
	Resized model.Resources
}

// Failure is a call to the runtime that failed and left nothing to observe.
type Failure struct {
	Reason  string
	Message string
	// At is when it failed last, Count how often in a row.
	At    time.Time
	Count int
	// Generation of the pod that a failed resize was for.
	Generation int64
	// Reserved counts how often in a row the runtime said that the name is taken while it showed nobody who has it.
	Reserved int
}

func (f *Facts) pod() *corev1.Pod {
	pod, _ := f.World.Pods.Get(f.UID)
	return pod
}

// runtime never gives nil: a pod the runtime does not know is an empty one.
func (f *Facts) runtime() *model.PodRuntime {
	if rt, ok := f.World.Runtime.Get(f.UID); ok {
		return rt
	}
	return &model.PodRuntime{UID: f.UID}
}

func (f *Facts) volumes() *model.PodVolumes {
	if v, ok := f.World.Volumes.Get(f.UID); ok {
		return v
	}
	return &model.PodVolumes{UID: f.UID}
}

// verdict is the standing verdict of a probe on this very container.
func (f *Facts) verdict(c *model.Container, t model.ProbeType) model.Verdict {
	p, ok := f.World.Probes.Get(model.ProbeKey{PodUID: f.UID, Container: c.Name, Type: t})
	if !ok || p.ContainerID != c.ID {
		return model.Pending
	}
	return p.Verdict
}

func podKey(pod *corev1.Pod) model.Key { return model.Key{Namespace: pod.Namespace, Name: pod.Name} }
