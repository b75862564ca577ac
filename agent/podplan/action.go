package podplan

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/internal/model"
)

// Plan is what Make gives.
type Plan struct {
	// Actions in the order in which they are to be begun.
	Actions []Action
	// Problems are what the user should know; each becomes an event.
	Problems []Problem
	// Status is what is true of the pod; nil when nothing may be said.
	Status *corev1.PodStatus
	// Stopping: the pod as a whole is being stopped, within Grace.
	Stopping bool
	Grace    time.Duration
	// Wake is when to plan again even if no fact changes; zero when there is no such time.
	Wake time.Time
}

// String is one action or problem a line.
func (p Plan) String() string {
	var b strings.Builder
	for _, a := range p.Actions {
		fmt.Fprintln(&b, a)
	}
	for _, x := range p.Problems {
		fmt.Fprintln(&b, "problem", x)
	}
	return b.String()
}

// Action is one thing to do. The set is closed: agent/execute.go has an arm for each.
type Action interface {
	fmt.Stringer
	action()
}

// CreateSandbox makes the pod's cgroup and runs its sandbox.
type CreateSandbox struct {
	Config  *runtimev1.PodSandboxConfig
	Handler string
	// Pod has the resources that its cgroup is made for.
	Pod *corev1.Pod
	// Changed: there was a sandbox before.
	Changed bool
}

// StopSandbox takes the network of a sandbox down; no container of it runs.
type StopSandbox struct{ ID string }

// RemoveSandbox removes a stopped sandbox without containers.
type RemoveSandbox struct{ ID string }

// EnsureImage asks for an image; what comes of it appears in the Images table.
type EnsureImage struct {
	Container string
	Image     string
	Policy    corev1.PullPolicy
	// Attempt is the restart count of the container it is for: with policy Always, each start asks anew.
	Attempt uint32
}

// CreateContainer creates a container and starts it.
type CreateContainer struct {
	SandboxID     string
	Config        *runtimev1.ContainerConfig
	SandboxConfig *runtimev1.PodSandboxConfig
	Files         Files
	PostStart     *corev1.LifecycleHandler
	SubPaths      []SubPath
	// EnvFiles are variables whose values are in files.
	EnvFiles []EnvFile
}

// StartContainer starts a container that was created by an earlier request.
type StartContainer struct {
	ID        string
	Name      string
	LogPath   string
	PostStart *corev1.LifecycleHandler
}

// PreStop runs a container's preStop hook.
type PreStop struct {
	ID      string
	Name    string
	Handler *corev1.LifecycleHandler
	Within  time.Duration
	Why     Why
}

// KillContainer sends SIGTERM, and SIGKILL after Grace.
type KillContainer struct {
	ID    string
	Name  string
	Grace time.Duration
	Why   Why
}

// RemoveContainer removes a dead container and its log.
type RemoveContainer struct {
	ID      string
	Name    string
	LogPath string
}

// DeletePodObject deletes the pod from the API: nothing of it is left on this node.
type DeletePodObject struct {
	Key model.Key
	UID model.UID
}

// ForgetPod removes the cgroup and the logs of a pod of which nothing else is left anywhere.
type ForgetPod struct{ UID model.UID }

// ReleaseClaims has drivers take back what they prepared for a pod of which nothing runs any more.
type ReleaseClaims struct{ UID model.UID }

// Resize brings the limits of a running pod to what it was granted: first what
// grows in the pod's cgroup, then the containers, then what shrinks in the pod's cgroup.
type Resize struct {
	// Pod has the resources that were granted.
	Pod *corev1.Pod
	// Cgroup stands for what the pod's cgroup is to be.
	Cgroup string
	// Keep: nothing of the pod's cgroup shrinks yet, for containers that are still to be replaced.
	Keep bool
	// MemoryLimit of the pod if it may be less than before; 0: it is not.
	MemoryLimit int64
	Containers  []ResizeContainer
	// Generation of the pod that the resources were granted for.
	Generation int64
	// Sandbox is the pod's; Resources and Overhead are what the runtime is told of the pod as a whole.
	Sandbox             string
	Resources, Overhead *runtimev1.LinuxContainerResources
}

// ResizeContainer gives a running container other limits.
type ResizeContainer struct {
	ID, Name  string
	Resources *runtimev1.LinuxContainerResources
	// Less: the memory limit is lower than before.
	Less bool
}

// Why says why a container is stopped.
type Why struct {
	// Reason is for metrics and logs: Deleted, LivenessProbe...
	Reason string
	// Message is the text of the Killing event.
	Message string
}

// Files are the files on the host that a container needs before it is created.
type Files struct {
	// Hosts is the path of the managed /etc/hosts; empty: none.
	Hosts        string
	HostsContent string
	// HostsFromHost: the content of the host's own file goes between the first line and the aliases.
	HostsFromHost bool
	// TerminationLog is an empty file to make, world-writable; empty: none.
	TerminationLog string
	// LogDir is the directory of the container's log.
	LogDir string
}

// SubPath is a mount of a part of a volume: the host path of the mount at
// Index is known only when it is resolved without following links out of the volume.
type SubPath struct {
	Index  int
	Volume string
	Path   string
}

func (CreateSandbox) action()   {}
func (StopSandbox) action()     {}
func (RemoveSandbox) action()   {}
func (EnsureImage) action()     {}
func (CreateContainer) action() {}
func (StartContainer) action()  {}
func (Resize) action()          {}
func (PreStop) action()         {}
func (KillContainer) action()   {}
func (RemoveContainer) action() {}
func (DeletePodObject) action() {}
func (ForgetPod) action()       {}
func (ReleaseClaims) action()   {}

func (a CreateSandbox) String() string {
	s := fmt.Sprintf("create-sandbox #%d", a.Config.GetMetadata().GetAttempt())
	if a.Handler != "" {
		s += " handler=" + a.Handler
	}
	return s
}

func (a StopSandbox) String() string   { return "stop-sandbox " + a.ID }
func (a RemoveSandbox) String() string { return "remove-sandbox " + a.ID }
func (a EnsureImage) String() string {
	return fmt.Sprintf("ensure-image %s %s for %s#%d", a.Image, a.Policy, a.Container, a.Attempt)
}

func (a CreateContainer) String() string {
	s := fmt.Sprintf("create-container %s#%d in %s", a.Config.GetMetadata().GetName(), a.Config.GetMetadata().GetAttempt(), a.SandboxID)
	if level := a.Config.GetAnnotations()[AnnotationBackOff]; level != "" && level != "0" {
		s += " backoff-level=" + level
	}
	if a.PostStart != nil {
		s += " then post-start"
	}
	return s
}

func (a StartContainer) String() string {
	s := fmt.Sprintf("start-container %s %s", a.Name, a.ID)
	if a.PostStart != nil {
		s += " then post-start"
	}
	return s
}

func (a Resize) String() string {
	s := fmt.Sprintf("resize %s shares=%d quota=%d memory=%d cgroup %s", a.Sandbox,
		a.Resources.GetCpuShares(), a.Resources.GetCpuQuota(), a.Resources.GetMemoryLimitInBytes(), a.Cgroup)
	if a.Keep {
		s += ", shrinking nothing"
	}
	for _, c := range a.Containers {
		r := c.Resources
		s += fmt.Sprintf("; %s %s shares=%d quota=%d memory=%d", c.Name, c.ID, r.CpuShares, r.CpuQuota, r.MemoryLimitInBytes)
	}
	return s
}

func (a PreStop) String() string {
	return fmt.Sprintf("pre-stop %s %s within %s (%s)", a.Name, a.ID, a.Within, a.Why.Reason)
}

func (a KillContainer) String() string {
	return fmt.Sprintf("kill-container %s %s grace %s (%s)", a.Name, a.ID, a.Grace, a.Why.Reason)
}

func (a RemoveContainer) String() string { return fmt.Sprintf("remove-container %s %s", a.Name, a.ID) }
func (a DeletePodObject) String() string { return fmt.Sprintf("delete-pod-object %s %s", a.Key, a.UID) }
func (a ReleaseClaims) String() string   { return "release-claims " + a.UID.String() }
func (a ForgetPod) String() string       { return "forget-pod " + a.UID.String() }
