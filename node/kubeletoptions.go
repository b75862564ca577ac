package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/shutdown/shutdownplan"
)

// KubeletOptions are settings of the agent by the names and with the meaning
// of KubeletConfiguration. The zero value is upstream's default.
type KubeletOptions struct {
	ProviderID     string
	SeccompDefault bool
	// MaxContainerRestartPeriod bounds CrashLoopBackOff.
	MaxContainerRestartPeriod time.Duration
	// NodeStatusUpdateFrequency, NodeStatusReportFrequency and NodeLeaseDuration rule what the API server hears of the node.
	NodeStatusUpdateFrequency, NodeStatusReportFrequency, NodeLeaseDuration time.Duration
	// PodPidsLimit bounds the processes of a pod; below 1 there is no bound.
	PodPidsLimit int64
	// PodsPerCore bounds the pods of the node beside --max-pods; 0 for no bound.
	PodsPerCore int
	// KubeReserved and SystemReserved are kept from pods.
	KubeReserved, SystemReserved corev1.ResourceList
	// ClientCAFile signs the client certificates that the kubelet API accepts; empty for that of the data directory.
	ClientCAFile string
	// TLSCertFile and TLSPrivateKeyFile are the kubelet API's serving certificate; empty for that of the data directory.
	TLSCertFile, TLSPrivateKeyFile string
	// Shutdown is how long pods have to end before the machine goes down; the zero value: they are not waited for.
	Shutdown shutdownplan.Settings
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
