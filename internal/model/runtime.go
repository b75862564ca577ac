package model

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// PodRuntime is what the container runtime says of one pod: all sandboxes and
// containers that carry its UID, newest first. It is an observation, never a
// wish; the only writer is the agent's observer.
type PodRuntime struct {
	UID UID
	Pod Key
	// Sandboxes newest (highest attempt) first.
	Sandboxes []Sandbox
	// Containers newest (highest attempt, then creation) first within a name.
	Containers []Container
	// Observed is when the runtime was asked.
	Observed time.Time
}

// Sandbox is one pod sandbox of the runtime.
type Sandbox struct {
	ID      string
	Attempt uint32
	Ready   bool
	Created time.Time
	// IPs of the pod network, primary first; empty with the host's network.
	IPs         []netip.Addr
	HostNetwork bool
	Handler     string
	Annotations map[string]string
	// UserNS is the host's id of the pod's user 0; 0: the pod has no user namespace of its own.
	UserNS uint32
}

// ContainerState is the state of a container as CRI knows it.
type ContainerState uint8

// The states of a container.
const (
	ContainerUnknown ContainerState = iota
	ContainerCreated
	ContainerRunning
	ContainerExited
)

// String is the state in lower case.
func (s ContainerState) String() string {
	return [...]string{"unknown", "created", "running", "exited"}[s]
}

// Container is one container of the runtime, in whatever state.
type Container struct {
	ID        string
	Name      string
	SandboxID string
	// Attempt is the restart count this container was created with.
	Attempt  uint32
	State    ContainerState
	Created  time.Time
	Started  time.Time
	Finished time.Time
	ExitCode int32
	// Reason and Message are the runtime's (OOMKilled, Completed, Error, StartError...).
	Reason  string
	Message string
	// Image is the reference asked for, ImageRef the digest or id that runs.
	Image    string
	ImageRef string
	LogPath  string
	// User is what the first process of the container runs as; nil when the runtime does not say.
	User *User
	// StopSignal by name, SIGTERM; empty when the runtime does not say.
	StopSignal string
	// Resources are the limits that the runtime says the container has; nil when it does not say.
	Resources *Resources
	// Annotations and Labels are what the agent wrote at creation: the memory that survives a restart.
	Annotations map[string]string
	Labels      map[string]string
}

// User is who a process runs as, within its user namespace.
type User struct {
	UID, GID int64
	// Groups are the supplementary ones.
	Groups []int64
}

// Resources are the limits of a container in the units of CRI. Zero is no limit.
type Resources struct {
	CPUShares int64
	// CPUQuota is the µs of CPU in each CPUPeriod.
	CPUQuota, CPUPeriod int64
	// MemoryLimit in bytes.
	MemoryLimit int64
}

// String is one line: pod, sandboxes, containers with state and attempt.
func (r *PodRuntime) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.UID, r.Pod)
	for _, s := range r.Sandboxes {
		fmt.Fprintf(&b, " sandbox#%d ready=%t %v", s.Attempt, s.Ready, s.IPs)
	}
	for _, c := range r.Containers {
		fmt.Fprintf(&b, " %s#%d=%s", c.Name, c.Attempt, c.State)
		if c.State == ContainerExited {
			fmt.Fprintf(&b, "(%d)", c.ExitCode)
		}
	}
	return b.String()
}

// Latest gives the newest container of that name, nil when there is none.
func (r *PodRuntime) Latest(name string) *Container {
	for i := range r.Containers {
		if r.Containers[i].Name == name {
			return &r.Containers[i]
		}
	}
	return nil
}

// ByID gives the container with that id, nil when there is none.
func (r *PodRuntime) ByID(id string) *Container {
	for i := range r.Containers {
		if r.Containers[i].ID == id {
			return &r.Containers[i]
		}
	}
	return nil
}
