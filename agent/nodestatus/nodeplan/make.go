package nodeplan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Plan is what the Node object should be.
type Plan struct {
	Node *corev1.Node
	// Changed: it differs from what was there in more than heartbeats.
	Changed bool
	Events  []Event
}

// Ready tells whether the node is to be Ready.
func (p Plan) Ready() bool {
	c := find(p.Node.Status.Conditions, corev1.NodeReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Make decides what the Node object says. old is what the API server has; nil makes the object that
// registers the node.
func Make(f Facts, old *corev1.Node) Plan {
	var node *corev1.Node
	if old == nil {
		node = register(f.Identity, f.Machine)
	} else {
		node = old.DeepCopy()
		adopt(node, f)
	}
	p := Plan{Node: node}
	p.status(f, old)
	p.Changed = old == nil || differs(old, node)
	return p
}

// attach makes volumes of this node the work of the attach-detach controller.
const attach = "volumes.kubernetes.io/controller-managed-attach-detach"

// register makes the object of a node that is not known to the API server.
func register(id Identity, m Machine) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:        id.Name,
		Labels:      defaultLabels(id, m),
		Annotations: map[string]string{attach: "true"},
	}}
	maps.Copy(node.Labels, id.Labels)
	node.Spec.Taints = slices.Clone(id.Taints)
	if id.Cloud {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: uninitialized, Value: "true", Effect: corev1.TaintEffectNoSchedule})
	}
	suggest(node, id)
	node.Spec.ProviderID = id.ProviderID
	node.Spec.Unschedulable = id.Unschedulable
	return node
}

// defaultLabels are the labels every node has. The beta ones are still written by upstream and still
// selected by manifests.
func defaultLabels(id Identity, m Machine) map[string]string {
	return map[string]string{
		corev1.LabelHostname:      cmp.Or(id.Hostname, id.Name),
		corev1.LabelOSStable:      m.OS,
		corev1.LabelArchStable:    m.Arch,
		"beta.kubernetes.io/os":   m.OS,
		"beta.kubernetes.io/arch": m.Arch,
	}
}

// adoptable are the labels that the node itself decides about on an existing object; a value for
// them in the configuration counts too.
var adoptable = []string{
	corev1.LabelHostname, corev1.LabelOSStable, corev1.LabelArchStable, "beta.kubernetes.io/os", "beta.kubernetes.io/arch",
	corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
	corev1.LabelInstanceTypeStable, corev1.LabelInstanceType,
}

// adopt brings the metadata of an existing object in line, as upstream does: the default labels and
// the annotation, and nothing else.
func adopt(node *corev1.Node, f Facts) {
	want := defaultLabels(f.Identity, f.Machine)
	maps.Copy(want, f.Identity.Labels)
	if node.Labels == nil {
		node.Labels = map[string]string{}
	}
	for _, name := range adoptable {
		if v, ok := want[name]; ok && v != "" {
			node.Labels[name] = v
		}
	}
	if node.Annotations == nil {
		node.Annotations = map[string]string{}
	}
	node.Annotations[attach] = "true"
	suggest(node, f.Identity)
}

// uninitialized keeps pods away until the cloud controller manager has looked at the node, and takes it away.
const uninitialized = "node.cloudprovider.kubernetes.io/uninitialized"

// provided tells the cloud controller manager which of the machine's addresses to take.
const provided = "alpha.kubernetes.io/provided-node-ip"

func suggest(node *corev1.Node, id Identity) {
	if !id.Cloud || !id.IPsGiven {
		delete(node.Annotations, provided)
		return
	}
	var ips []string
	for _, ip := range id.IPs {
		ips = append(ips, ip.String())
	}
	node.Annotations[provided] = strings.Join(ips, ",")
}

func (p *Plan) status(f Facts, old *corev1.Node) {
	s := &p.Node.Status
	if !f.Identity.Cloud || len(s.Addresses) == 0 { // those of the cloud stay
		s.Addresses = addresses(f.Identity)
	}
	resources(s, f)
	if old != nil && old.Status.NodeInfo.BootID != "" && old.Status.NodeInfo.BootID != f.Machine.BootID {
		p.event(corev1.EventTypeWarning, "Rebooted", fmt.Sprintf("Node %s has been rebooted, boot id: %s", f.Identity.Name, f.Machine.BootID))
	}
	s.NodeInfo = info(f, s.NodeInfo)
	s.DaemonEndpoints.KubeletEndpoint.Port = f.Identity.KubeletPort
	if f.Images != nil { // not listed yet
		s.Images = f.Images
	}
	if !f.Runtime.Answered.IsZero() {
		features(s, f.Runtime)
	}
	p.conditions(f, old)
}

func (p *Plan) event(kind, reason, message string) {
	p.Events = append(p.Events, Event{Type: kind, Reason: reason, Message: message})
}

func addresses(id Identity) []corev1.NodeAddress {
	var all []corev1.NodeAddress
	for _, ip := range id.IPs {
		if id.Cloud && !id.IPsGiven {
			break // the cloud knows better than a guess
		}
		all = append(all, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	return append(all, corev1.NodeAddress{Type: corev1.NodeHostName, Address: cmp.Or(id.Hostname, id.Name)})
}

// info keeps the name and version of the runtime while they are not known, so that a restart of the
// daemon or the runtime does not change them back and forth.
func info(f Facts, old corev1.NodeSystemInfo) corev1.NodeSystemInfo {
	m := f.Machine
	i := corev1.NodeSystemInfo{
		MachineID: m.MachineID, SystemUUID: m.SystemUUID, BootID: m.BootID, KernelVersion: m.Kernel, OSImage: m.OSImage,
		ContainerRuntimeVersion: old.ContainerRuntimeVersion,
		KubeletVersion:          f.Identity.KubeletVersion,
		OperatingSystem:         m.OS, Architecture: m.Arch,
	}
	if f.Runtime.Name != "" {
		i.ContainerRuntimeVersion = f.Runtime.Name + "://" + strings.TrimPrefix(f.Runtime.Version, "v")
	}
	if m.Swap > 0 {
		capacity := int64(m.Swap)
		i.Swap = &corev1.NodeSwapStatus{Capacity: &capacity}
	}
	return i
}

func features(s *corev1.NodeStatus, r Runtime) {
	s.RuntimeHandlers = nil
	for _, h := range r.Handlers {
		s.RuntimeHandlers = append(s.RuntimeHandlers, corev1.NodeRuntimeHandler{Name: h.Name, Features: &corev1.NodeRuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: &h.RecursiveReadOnly, UserNamespaces: &h.UserNamespaces,
		}})
	}
	slices.SortFunc(s.RuntimeHandlers, func(a, b corev1.NodeRuntimeHandler) int { return cmp.Compare(a.Name, b.Name) })
	s.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: &r.SupplementalGroups}
	s.DeclaredFeatures = declared()
}

// differs compares two objects, heartbeats aside.
func differs(a, b *corev1.Node) bool {
	x, y := a.Status.DeepCopy(), b.Status.DeepCopy()
	for _, s := range []*corev1.NodeStatus{x, y} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return !equality.Semantic.DeepEqual(x, y) ||
		!equality.Semantic.DeepEqual(a.Labels, b.Labels) || !equality.Semantic.DeepEqual(a.Annotations, b.Annotations)
}

// declared are the features of pods that the scheduler and the API server hand
// out only to nodes that say they have them (KEP-5328), sorted: the agent
// always has these.
func declared() []string {
	return []string{
		"InPlacePodLevelResourcesVerticalScaling", "InPlacePodVerticalScalingInitContainers", "RestartAllContainersOnContainerExits",
	}
}
