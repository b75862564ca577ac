package prove

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// objectsOf writes what a state was compiled from as the API has it, for a proxy
// that reads that; but for ServiceCIDRs (see unassigned-addresses in known.go).
func objectsOf(s *lb.State) (out []metav1.Object) {
	snap := s.Source()
	for _, n := range snap.Nodes.All() {
		out = append(out, nodeObject(n))
	}
	for _, svc := range snap.Services.All() {
		out = append(out, serviceObject(svc))
	}
	for _, sl := range snap.Slices.All() {
		out = append(out, sliceObject(sl))
	}
	return out
}

func nodeObject(n *model.Node) *corev1.Node {
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels, UID: types.UID("node-" + n.Name)}}
	for _, a := range n.InternalIPs {
		o.Status.Addresses = append(o.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	return o
}

func serviceObject(s *model.Service) *corev1.Service {
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.Key.Namespace, Name: s.Key.Name, UID: types.UID("svc-" + s.Key.String())}}
	spec := &o.Spec
	spec.Type = corev1.ServiceType(s.Type.String())
	spec.ClusterIPs = texts(s.ClusterIPs)
	spec.ClusterIP = spec.ClusterIPs[0]
	for _, a := range s.ClusterIPs {
		spec.IPFamilies = append(spec.IPFamilies, map[bool]corev1.IPFamily{false: corev1.IPv4Protocol, true: corev1.IPv6Protocol}[a.Is6()])
	}
	for _, p := range s.Ports {
		spec.Ports = append(spec.Ports, corev1.ServicePort{
			Name: p.Name, Protocol: corev1.Protocol(p.Protocol.String()), Port: int32(p.Port), NodePort: int32(p.NodePort), TargetPort: intstr.FromString(p.Name),
		})
		if s.Type == model.ClusterIP {
			spec.Ports[len(spec.Ports)-1].NodePort = 0
		}
	}
	internal, external := corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyCluster
	if s.InternalLocal {
		internal = corev1.ServiceInternalTrafficPolicyLocal
	}
	if s.ExternalLocal {
		external = corev1.ServiceExternalTrafficPolicyLocal
	}
	spec.InternalTrafficPolicy = &internal
	spec.ExternalTrafficPolicy = external
	spec.SessionAffinity = corev1.ServiceAffinityNone
	if s.AffinityTimeout > 0 {
		seconds := int32(s.AffinityTimeout.Seconds())
		spec.SessionAffinity = corev1.ServiceAffinityClientIP
		spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
	for _, r := range s.SourceRanges {
		spec.LoadBalancerSourceRanges = append(spec.LoadBalancerSourceRanges, r.String())
	}
	spec.ExternalIPs = texts(s.ExternalIPs)
	for _, in := range s.LoadBalancer {
		if s.Type != model.LoadBalancer {
			break // the API refuses it
		}
		mode := corev1.LoadBalancerIPModeVIP
		if in.Proxy {
			mode = corev1.LoadBalancerIPModeProxy
		}
		o.Status.LoadBalancer.Ingress = append(o.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: in.IP.String(), IPMode: &mode})
	}
	return o
}

func sliceObject(s *model.Slice) *discoveryv1.EndpointSlice {
	o := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Key.Namespace, Name: s.Key.Name, UID: types.UID("slice-" + s.Key.String()),
			Labels: map[string]string{discoveryv1.LabelServiceName: s.Service.Name, discoveryv1.LabelManagedBy: "prove"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	if s.IPv6 {
		o.AddressType = discoveryv1.AddressTypeIPv6
	}
	o.Name += "-" + strings.ToLower(string(o.AddressType)) // one that has no endpoints left keeps no family, and that of an object cannot change
	for _, p := range s.Ports {
		protocol, port := corev1.Protocol(p.Protocol.String()), int32(p.Port)
		o.Ports = append(o.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &protocol, Port: &port})
	}
	for _, e := range s.Endpoints {
		o.Endpoints = append(o.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{e.Addr.String()}, NodeName: &e.NodeName,
			Conditions: discoveryv1.EndpointConditions{Ready: &e.Ready, Serving: &e.Serving, Terminating: &e.Terminating},
		})
	}
	return o
}

func texts(list []netip.Addr) (out []string) {
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

// The sentinel is a Service of its own that changes with each case: a proxy that sends its packets
// where they belong has taken up whatever came before it. It is none of any case's.
const sentinel = "sentinel"

// sentinelAt are the frontends and endpoints of the n-th sentinel, by family.
func sentinelAt(n int, ipv6 bool) (frontend, endpoint netip.AddrPort) {
	port := uint16(1 + n%60_000)
	vip, to := "10.96.255.254", "10.244.2.254"
	if ipv6 {
		vip, to = "fd96::fffe", "fd44:2::fffe"
	}
	return netip.AddrPortFrom(netip.MustParseAddr(vip), port), netip.AddrPortFrom(netip.MustParseAddr(to), port)
}

// sentinelObjects are the n-th: the Service and its slices.
func sentinelObjects(n int) []metav1.Object {
	key := model.Key{Namespace: sentinel, Name: sentinel}
	svc := &model.Service{Key: key}
	objects := []metav1.Object{nil}
	for _, ipv6 := range []bool{false, true} {
		frontend, endpoint := sentinelAt(n, ipv6)
		svc.ClusterIPs = append(svc.ClusterIPs, frontend.Addr())
		svc.Ports = []model.ServicePort{{Name: "p", Protocol: model.TCP, Port: frontend.Port()}}
		objects = append(objects, sliceObject(&model.Slice{
			Key: key, Service: key, IPv6: ipv6,
			Ports:     []model.SlicePort{{Name: "p", Protocol: model.TCP, Port: endpoint.Port()}},
			Endpoints: []model.Endpoint{{Addr: endpoint.Addr(), Ready: true, Serving: true, NodeName: "n2"}},
		}))
	}
	objects[0] = serviceObject(svc)
	return objects
}

// idOf tells objects apart by kind and name.
func idOf(o metav1.Object) string {
	kind := "node"
	switch o.(type) {
	case *corev1.Service:
		kind = "service"
	case *discoveryv1.EndpointSlice:
		kind = "slice"
	}
	return kind + " " + o.GetNamespace() + "/" + o.GetName()
}

// missing gives the objects of before that are not among now.
func missing(before, now []metav1.Object) []metav1.Object {
	there := map[string]bool{}
	for _, o := range now {
		there[idOf(o)] = true
	}
	return slices.DeleteFunc(slices.Clone(before), func(o metav1.Object) bool { return there[idOf(o)] })
}
