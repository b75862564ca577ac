package nodeplan

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Grace is how long a runtime may be silent before the node is not ready, and how long a daemon has
// after its start to look at everything. It is upstream's threshold for both.
const Grace = 30 * time.Second

// Identity is what the configuration says of this node.
type Identity struct {
	Name     string
	Hostname string
	// IPs are the addresses of the node, the primary first, at most one per family.
	IPs []netip.Addr
	// Labels and Taints are set when the node registers for the first time, not later.
	Labels     map[string]string
	Taints     []corev1.Taint
	ProviderID string
	// Cloud: a cloud controller manager initialises the node, and its addresses are that one's. IPsGiven: IPs
	// are what an administrator says and not a guess.
	Cloud, IPsGiven bool
	// KubeletPort is where the API server reaches the kubelet API.
	KubeletPort    int32
	KubeletVersion string
	Unschedulable  bool
}

// Machine is what the machine says of itself.
type Machine struct {
	CPUs             int
	Memory           uint64
	EphemeralStorage uint64
	Swap             uint64
	// HugePages maps a page size in bytes to the bytes reserved in pages of that size.
	HugePages                                          map[uint64]uint64
	MachineID, SystemUUID, BootID, Kernel, OSImage, OS string
	Arch                                               string
}

// Reserve is what pods cannot have.
type Reserve struct {
	MaxPods, PodsPerCore int
	// Kube and System are kubeReserved and systemReserved.
	Kube, System corev1.ResourceList
	// EvictMemory and EvictStorage are the hard eviction thresholds in bytes.
	EvictMemory  uint64
	EvictStorage uint64
}

// Condition is a condition of the runtime.
type Condition struct {
	Type            string
	Status          bool
	Reason, Message string
}

// String is the condition as the kubelet writes it into a message.
func (c Condition) String() string {
	return fmt.Sprintf("%s=%t reason:%s message:%s", c.Type, c.Status, c.Reason, c.Message)
}

// Handler is a runtime handler and what it can do.
type Handler struct {
	Name                              string
	RecursiveReadOnly, UserNamespaces bool
}

// Runtime is what is known of the container runtime.
type Runtime struct {
	// Answered is when it last said that it is ready; zero when it never did.
	Answered time.Time
	// Runtime and Network are its two conditions; nil when it did not tell.
	Runtime, Network *Condition
	// Name and Version as "containerd" and "v2.4.2"; empty when not known yet.
	Name, Version      string
	Handlers           []Handler
	SupplementalGroups bool
}

// Device is a resource of a device plugin; 0 where there was a plugin once.
type Device struct {
	Name                  string
	Capacity, Allocatable int64
}

// Pressure is what the eviction part says.
type Pressure struct {
	Memory, Disk, PID bool
}

// Facts is all that the status follows from.
type Facts struct {
	Now time.Time
	// Started is when the daemon started.
	Started  time.Time
	Identity Identity
	Machine  Machine
	Reserve  Reserve
	Runtime  Runtime
	// Missing says what keeps the node from being ready besides the runtime, one clause each.
	Missing []string
	// ShuttingDown: the machine is about to go down.
	ShuttingDown bool
	Pressure     Pressure
	// Devices are the resources of device plugins.
	Devices []Device
	// Images, the largest first; nil when they have not been listed yet.
	Images []corev1.ContainerImage
}

// Event is something to tell about the node.
type Event struct {
	Type, Reason, Message string
}

// String is one line.
func (e Event) String() string { return e.Type + " " + e.Reason + ": " + e.Message }

// Ready tells whether the runtime said that it can run pods.
func (r Runtime) Ready() bool {
	return r.Runtime != nil && r.Runtime.Status && r.Network != nil && r.Network.Status
}
