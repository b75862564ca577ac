package node

import "path/filepath"

// The default places. A moved data directory takes the kubelet root and the
// pod logs along; at the default they are where log shippers, CSI drivers and
// people look for them.
const (
	DefaultDataDir     = "/var/lib/nodelet"
	DefaultRunDir      = "/run/nodelet"
	defaultKubeletRoot = "/var/lib/kubelet"
	defaultPodLogs     = "/var/log/pods"
	defaultCtrLogs     = "/var/log/containers"
)

// Layout names every path the daemon uses. It is computed here and nowhere else.
type Layout struct {
	Data, Run string
}

func (l Layout) moved() bool { return l.Data != DefaultDataDir }

// Version holds the format of the data directory as a number.
func (l Layout) Version() string { return filepath.Join(l.Data, "version") }

// AdminKubeconfig is for people.
func (l Layout) AdminKubeconfig() string { return filepath.Join(l.Data, "admin.kubeconfig") }

// NodeKubeconfig is the identity of this node.
func (l Layout) NodeKubeconfig() string { return filepath.Join(l.Data, "node.kubeconfig") }

// ControlPlane is the directory of the bundled control plane.
func (l Layout) ControlPlane() string { return filepath.Join(l.Data, "controlplane") }

// PKI is the directory of the node's certificates.
func (l Layout) PKI() string { return filepath.Join(l.Data, "pki") }

// ServingCert is the certificate of the kubelet API.
func (l Layout) ServingCert() string { return filepath.Join(l.PKI(), "kubelet-server.crt") }

// ServingKey is the key of ServingCert.
func (l Layout) ServingKey() string { return filepath.Join(l.PKI(), "kubelet-server.key") }

// ClientCA signs the client certificates that the kubelet API accepts.
func (l Layout) ClientCA() string { return filepath.Join(l.PKI(), "kubelet-client-ca.crt") }

// ContainerdRoot keeps images and snapshots.
func (l Layout) ContainerdRoot() string { return filepath.Join(l.Data, "containerd") }

// ContainerdState keeps sockets, mounts and network namespaces of running pods.
func (l Layout) ContainerdState() string { return filepath.Join(l.Run, "containerd") }

// KubeletRoot holds the pods' volumes.
func (l Layout) KubeletRoot() string {
	if l.moved() {
		return filepath.Join(l.Data, "kubelet")
	}
	return defaultKubeletRoot
}

// SandboxSeccomp is the seccomp profile of sandboxes for a runtime of its own, which sees the
// pods' volumes here as well.
func (l Layout) SandboxSeccomp() string {
	return filepath.Join(l.KubeletRoot(), "nodelet-sandbox-seccomp.json")
}

// AgentState holds what the agent keeps for its next process.
func (l Layout) AgentState() string { return filepath.Join(l.Data, "agent") }

// CNIConf is where the network configuration is written for the runtime.
func (l Layout) CNIConf() string { return filepath.Join(l.Data, "cni", "net.d") }

// CNIState holds addresses in use and attachments.
func (l Layout) CNIState() string { return filepath.Join(l.Data, "cni", "state") }

// StaticPods is the record of the static pods that were taken.
func (l Layout) StaticPods() string { return filepath.Join(l.Data, "static-pods.json") }

// Logs is the directory of the daemon's own logs.
func (l Layout) Logs() string { return filepath.Join(l.Data, "log") }

// Log is the daemon's log when it runs in the background.
func (l Layout) Log() string { return filepath.Join(l.Logs(), "nodelet.log") }

// DynamicCgroups is there when the daemon has set a mount option of cgroup2.
func (l Layout) DynamicCgroups() string { return filepath.Join(l.Run, "cgroup2-favordynmods") }

// StuckFile has the stacks of parts of the daemon that did not end when it was told to stop.
func (l Layout) StuckFile() string { return filepath.Join(l.Logs(), "nodelet-stuck.txt") }

// ControlPlaneLog is the log of the bundled control plane.
func (l Layout) ControlPlaneLog() string { return filepath.Join(l.Logs(), "controlplane.log") }

// PodLogs holds the containers' log files.
func (l Layout) PodLogs() string {
	if l.moved() {
		return filepath.Join(l.Logs(), "pods")
	}
	return defaultPodLogs
}

// ContainerLogs holds the symbolic links that log shippers follow.
func (l Layout) ContainerLogs() string {
	if l.moved() {
		return filepath.Join(l.Logs(), "containers")
	}
	return defaultCtrLogs
}

// Socket is the control socket.
func (l Layout) Socket() string { return filepath.Join(l.Run, "nodelet.sock") }

// PIDFile is the daemon's.
func (l Layout) PIDFile() string { return filepath.Join(l.Run, "nodelet.pid") }

// ControlPlanePIDFile is the bundled control plane's.
func (l Layout) ControlPlanePIDFile() string { return filepath.Join(l.Run, "controlplane.pid") }

// Lock keeps a second daemon away from the same run directory.
func (l Layout) Lock() string { return filepath.Join(l.Run, "nodelet.lock") }
