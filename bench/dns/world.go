package dns

import (
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/bench/stubapi"
)

// world makes objects, the same ones for the same seed.
type world struct {
	api *stubapi.Server
	rnd *rand.Rand
	// names are all that were put, for questions.
	namespaces, services, hosts []string
	addrs                       []string
}

func newWorld(api *stubapi.Server, seed uint64) *world {
	return &world{api: api, rnd: rand.New(rand.NewPCG(seed, seed))}
}

func of[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func (w *world) namespace(name string) error {
	w.namespaces = append(w.namespaces, name)
	return w.api.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
}

// basics are what every cluster has.
func (w *world) basics() error {
	if err := w.namespace("default"); err != nil {
		return err
	}
	if err := w.namespace("kube-system"); err != nil {
		return err
	}
	kubernetes := service("default", "kubernetes")
	kubernetes.Spec.ClusterIP, kubernetes.Spec.ClusterIPs = "10.96.0.1", []string{"10.96.0.1"}
	kubernetes.Spec.Ports = []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}}
	return w.api.Put(kubernetes)
}

func service(ns, name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
}

// random puts n Services of every kind, with slices.
func (w *world) random(n int) error {
	for i := range 8 {
		if err := w.namespace(fmt.Sprintf("ns-%d", i)); err != nil {
			return err
		}
	}
	for i := range n {
		ns, name := of(w.rnd, w.namespaces[2:8]...), fmt.Sprintf("svc-%d", i)
		svc := service(ns, name)
		four, six := fmt.Sprintf("10.97.%d.%d", i>>8, i&255), fmt.Sprintf("fd00:97::%x", i+1)
		kind := w.rnd.IntN(10)
		switch {
		case kind < 2:
			svc.Spec.Type, svc.Spec.ExternalName = corev1.ServiceTypeExternalName, of(w.rnd, "www.example.com", "deep.a.example.com", "svc-1.ns-0.svc.cluster.local", "nowhere.invalid", "192.0.2.5")
		case kind < 6:
			svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		case kind < 7:
			svc.Spec.ClusterIPs = []string{four, six}
		case kind < 8:
			svc.Spec.ClusterIPs = []string{six}
		default:
			svc.Spec.ClusterIPs = []string{four}
		}
		if len(svc.Spec.ClusterIPs) > 0 {
			svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
			w.addrs = append(w.addrs, svc.Spec.ClusterIPs...)
		}
		for i, name := range []string{"http", "dns", "metrics"}[:1+w.rnd.IntN(3)] {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: name, Port: int32(80 + i), Protocol: of(w.rnd, corev1.ProtocolTCP, corev1.ProtocolUDP)})
		}
		if err := w.api.Put(svc); err != nil {
			return err
		}
		w.services = append(w.services, name+"."+ns)
		if kind < 2 {
			continue
		}
		for j := range w.rnd.IntN(3) {
			if err := w.api.Put(w.slice(svc, i, j)); err != nil {
				return err
			}
		}
	}
	return nil
}

// slice is the j-th slice of the i-th Service.
func (w *world) slice(svc *corev1.Service, i, j int) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, Name: fmt.Sprintf("%s-%d", svc.Name, j), Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name},
		},
		AddressType: of(w.rnd, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6),
	}
	for k := range svc.Spec.Ports {
		p := &svc.Spec.Ports[k]
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol})
	}
	for k := range w.rnd.IntN(6) {
		addr := fmt.Sprintf("10.244.%d.%d", i&255, j*16+k+1)
		if out.AddressType == discoveryv1.AddressTypeIPv6 {
			addr = fmt.Sprintf("fd00:244:%x::%x", i&255, j*16+k+1)
		}
		ready := w.rnd.IntN(4) > 0
		e := discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
		if w.rnd.IntN(3) == 0 {
			host := of(w.rnd, "db", "web-0", "web-1")
			e.Hostname = &host
			w.hosts = append(w.hosts, host)
		}
		w.addrs = append(w.addrs, addr)
		out.Endpoints = append(out.Endpoints, e)
	}
	return out
}

// many puts n plain Services with two endpoints each, as a large cluster has.
func (w *world) many(n int) error {
	for i := range 100 {
		if err := w.namespace(fmt.Sprintf("ns-%d", i)); err != nil {
			return err
		}
	}
	for i := range n {
		ns, name := fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("svc-%d", i)
		svc := service(ns, name)
		svc.Spec.ClusterIP = fmt.Sprintf("10.97.%d.%d", i>>8, i&255)
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
		svc.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
		if err := w.api.Put(svc); err != nil {
			return err
		}
		if err := w.api.Put(plainSlice(ns, name, i)); err != nil {
			return err
		}
	}
	return nil
}

func plainSlice(ns, svc string, j int) *discoveryv1.EndpointSlice {
	name, port, protocol, ready := "http", int32(8080), corev1.ProtocolTCP, true
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: ns, Name: svc + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: svc}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	for k := range 2 {
		addr := fmt.Sprintf("10.%d.%d.%d", 128+k, j>>8&255, j&255)
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return out
}
