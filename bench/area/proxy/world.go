package proxy

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/bench/area"
	"nodelet/internal/stubapi"
)

// What is watched of all the Services: one whose back end changes, and the last one.
const (
	flipName  = "flip"
	lastName  = "zz-last"
	flipVIP   = "10.111.0.1"
	lastVIP   = "10.111.0.2"
	nodePort  = 30080
	flowPort2 = 30081
)

// world is the cluster as the API shows it.
type world struct {
	api       *stubapi.Server
	size      int
	endpoints int
}

func newWorld(size, endpoints int) (*world, error) {
	api, err := stubapi.Start()
	if err != nil {
		return nil, err
	}
	return &world{api: api, size: size, endpoints: endpoints}, nil
}

// fill puts size Services: all but two are there to be many.
func (w *world) fill() error {
	if err := w.api.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
		return err
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: area.NodeName}}
	node.Spec.PodCIDR, node.Spec.PodCIDRs = "10.244.0.0/24", []string{"10.244.0.0/24"}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: area.NodeIP}, {Type: corev1.NodeHostName, Address: area.NodeName}}
	if err := w.api.Put(node); err != nil {
		return err
	}
	for i := range w.size - 2 {
		if err := w.api.Put(w.service(i)); err != nil {
			return err
		}
		if err := w.api.Put(w.slice(i, 0)); err != nil {
			return err
		}
	}
	flip := service("default", flipName, flipVIP)
	flip.Spec.Type = corev1.ServiceTypeNodePort
	flip.Spec.Ports[0].NodePort = nodePort
	flip.Spec.Ports = append(flip.Spec.Ports, corev1.ServicePort{Name: "flow", Port: 81, Protocol: corev1.ProtocolTCP, NodePort: flowPort2})
	last := service("default", lastName, lastVIP)
	for _, put := range []func() error{
		func() error { return w.api.Put(flip) }, func() error { return w.flip(0) },
		func() error { return w.api.Put(last) }, func() error { return w.api.Put(slice("default", lastName, backends[:1]...)) },
	} {
		if err := put(); err != nil {
			return err
		}
	}
	return nil
}

// flip makes one of the real back ends the only one of the Service that is watched.
func (w *world) flip(to int) error {
	s := slice("default", flipName, backends[to])
	name, port, protocol := "flow", int32(sinkPort), corev1.ProtocolTCP
	s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &protocol})
	return w.api.Put(s)
}

func (w *world) service(i int) *corev1.Service {
	return service(fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("svc-%d", i), fmt.Sprintf("10.%d.%d.%d", 97+i>>16, i>>8&255, i&255))
}

// slice gives the i-th Service its endpoints; another variant gives it others.
func (w *world) slice(i, variant int) *discoveryv1.EndpointSlice {
	addrs := make([]netip.Addr, w.endpoints)
	for k := range addrs {
		addrs[k] = netip.AddrFrom4([4]byte{10, byte(160 + 8*variant + k + i>>16), byte(i >> 8), byte(i)})
	}
	return slice(fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("svc-%d", i), addrs...)
}

func service(ns, name, vip string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ServiceTypeClusterIP, vip, []string{vip}
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	s.Spec.SessionAffinity = corev1.ServiceAffinityNone
	cluster := corev1.ServiceInternalTrafficPolicyCluster
	s.Spec.InternalTrafficPolicy, s.Spec.ExternalTrafficPolicy = &cluster, corev1.ServiceExternalTrafficPolicyCluster
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
	return s
}

func slice(ns, svc string, addrs ...netip.Addr) *discoveryv1.EndpointSlice {
	name, port, protocol, ready := "http", int32(servePort), corev1.ProtocolTCP, true
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: svc + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: svc}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	for _, a := range addrs {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
		})
	}
	return out
}
