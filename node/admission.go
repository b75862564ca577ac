package node

import (
	"maps"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/admission"
	"nodelet/agent/exclusive"
	"nodelet/internal/cgroup"
	"nodelet/internal/model"
)

// admission is what this node has for pods. Labels and taints are the API's
// once it has told of the node, and those that it was registered with before.
func (p *agentParts) admission() admission.Node {
	c := &p.n.cfg
	out := admission.Node{
		Name: c.NodeName, Allocatable: p.allocatable, StrictGroups: true, Sysctls: c.Kubelet.AllowedUnsafeSysctls, Users: p.users, AppArmor: p.appArmor,
		ShuttingDown: p.shutdown.Begun(), Pressure: p.evictor.Conditions(), StaticCPUs: c.Kubelet.CPUPolicy.Static, LimitedSwap: p.swap.Given(),
		Labels: map[string]string{corev1.LabelHostname: c.NodeName, corev1.LabelOSStable: "linux"},
	}
	maps.Copy(out.Labels, c.Labels)
	nodes := p.n.store.Snapshot().Nodes
	out.Unknown = !nodes.Synced()
	if node, ok := nodes.Get(model.Key{Name: c.NodeName}); ok {
		out.Labels, out.Taints = node.Labels, node.Taints
	}
	return out
}

// appArmorEnabled tells whether the kernel enforces AppArmor profiles, at boot decided.
func appArmorEnabled() bool {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && len(enabled) > 0 && enabled[0] == 'Y'
}

// podCgroup is what the cgroup of a pod is to be. CPUs that a container has to itself are its limit: no
// quota of the pod takes time on them away.
func (p *agentParts) podCgroup(pod *corev1.Pod) cgroup.Pod {
	out := cgroup.ForPod(pod, max(p.n.cfg.Kubelet.PodPidsLimit, 0))
	if p.n.cfg.Kubelet.CPUPolicy.Static && exclusive.WantsCPUs(pod) {
		out.Limits.CPUQuota, out.Limits.CPUPeriod = 0, 0
	}
	out.Limits.Over(p.n.cfg.Kubelet.CPUQuotaPeriod, p.n.cfg.Kubelet.NoCPUQuota)
	return out
}

// memoryUsage is what a pod uses in bytes, or one of its containers.
func (p *agentParts) memoryUsage(pod *corev1.Pod, containerID string) (uint64, error) {
	of := cgroup.ForPod(pod, 0)
	at := p.cgroups.Path(of.QoS, of.UID)
	if containerID != "" {
		at = p.cgroups.Container(at, containerID)
	}
	usage, err := p.cgroups.Usage(at, time.Now())
	return usage.Memory, err
}
