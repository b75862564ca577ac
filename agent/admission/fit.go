package admission

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/internal/podref"
)

// refusal is why a pod is not taken: the reason and message of its status.
type refusal struct{ reason, message string }

// shortage is a resource of which there is not enough. CPU counts in millicores.
type shortage struct {
	name                      corev1.ResourceName
	requested, used, capacity int64
}

func (s shortage) refusal() *refusal {
	return &refusal{"OutOf" + string(s.name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
		s.name, s.requested, s.used, s.capacity)}
}

// missing is how much must become free.
func (s shortage) missing() int64 { return s.requested - (s.capacity - s.used) }

// unfit says what about the pod itself does not suit this node; making room would not help.
func (d *decider) unfit(pod *corev1.Pod) *refusal {
	if d.node.ShuttingDown {
		return &refusal{"NodeShutdown", "Pod was rejected as the node is shutting down."}
	}
	if r := pressed(pod, d.node.Pressure); r != nil {
		return r
	}
	if r := forbiddenSysctl(pod, d.node.Sysctls); r != nil {
		return r
	}
	if r := unenforceable(pod, d.node.AppArmor); r != nil {
		return r
	}
	if os, ok := pod.Labels[corev1.LabelOSStable]; ok && os != "linux" {
		return &refusal{"PodOSSelectorNodeLabelDoesNotMatch", "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	if pod.Spec.OS != nil && pod.Spec.OS.Name != corev1.Linux {
		return &refusal{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if sc := pod.Spec.SecurityContext; sc != nil && sc.SupplementalGroupsPolicy != nil &&
		*sc.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict && !d.node.StrictGroups {
		return &refusal{"SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"}
	}
	return nil
}

// room says what keeps the pod from a place beside the pods that the node has:
// resources that are short, and reasons that freeing resources would not mend.
func (d *decider) room(pod *corev1.Pod) (short []shortage, other []refusal) {
	others := slices.DeleteFunc(slices.Clone(d.pods), func(p *corev1.Pod) bool { return p.UID == pod.UID })
	short = d.shortages(pod, others)
	if !matchesNode(pod, d.node) {
		other = append(other, refusal{"NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"})
	}
	if portTaken(pod, others) {
		other = append(other, refusal{"NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"})
	}
	if !podref.IsStatic(pod) && !tolerates(pod, d.node.Taints) {
		other = append(other, refusal{"TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"})
	}
	return short, other
}

func (d *decider) shortages(pod *corev1.Pod, others []*corev1.Pod) (short []shortage) {
	if q, ok := d.node.Allocatable[corev1.ResourcePods]; ok && int64(len(others))+1 > q.Value() {
		short = append(short, shortage{corev1.ResourcePods, 1, int64(len(others)), q.Value()})
	}
	requests := podref.Requests(pod)
	used := corev1.ResourceList{}
	for _, p := range others {
		for name, q := range podref.Requests(p) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	for _, name := range inOrder(requests) {
		capacity, ok := d.node.Allocatable[name]
		s := shortage{name, amount(name, requests[name]), amount(name, used[name]), amount(name, capacity)}
		// An extended resource that the node does not have belongs to the cluster, not to the node; and
		// what is allocated through a ResourceClaim has been counted by the scheduler.
		if ok && !podref.ByClaim(pod, "", name) && s.requested > 0 && s.missing() > 0 {
			short = append(short, s)
		}
	}
	return short
}

// inOrder gives CPU, memory and storage first, then the others by name.
func inOrder(list corev1.ResourceList) []corev1.ResourceName {
	first := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
	names := slices.Clone(first)
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if !slices.Contains(first, name) {
			names = append(names, name)
		}
	}
	return names
}

func amount(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// tolerates: no taint of the node would drive the pod away at once.
func tolerates(pod *corev1.Pod, taints []corev1.Taint) bool {
	return !slices.ContainsFunc(taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute && !slices.ContainsFunc(pod.Spec.Tolerations, func(tol corev1.Toleration) bool {
			return tolerated(&tol, &t)
		})
	})
}

func tolerated(tol *corev1.Toleration, t *corev1.Taint) bool {
	if (tol.Effect != "" && tol.Effect != t.Effect) || (tol.Key != "" && tol.Key != t.Key) {
		return false
	}
	switch tol.Operator {
	case "", corev1.TolerationOpEqual:
		return tol.Value == t.Value
	case corev1.TolerationOpExists:
		return true
	}
	return false
}

// portTaken: another pod of the node has a port of the host that this one asks for.
func portTaken(pod *corev1.Pod, others []*corev1.Pod) bool {
	ports := hostPorts(pod)
	if len(ports) == 0 {
		return false
	}
	for _, other := range others {
		for _, theirs := range hostPorts(other) {
			for _, p := range ports {
				if conflict(p, theirs) {
					return true
				}
			}
		}
	}
	return false
}

// hostPorts are those of the containers that run as long as the pod does.
func hostPorts(pod *corev1.Pod) (all []corev1.ContainerPort) {
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				all = append(all, p)
			}
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	return all
}

func conflict(a, b corev1.ContainerPort) bool {
	if a.HostPort != b.HostPort || protocol(a.Protocol) != protocol(b.Protocol) {
		return false
	}
	return a.HostIP == b.HostIP || anyAddress(a.HostIP) || anyAddress(b.HostIP)
}

func protocol(p corev1.Protocol) corev1.Protocol { return cmp.Or(p, corev1.ProtocolTCP) }

func anyAddress(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
