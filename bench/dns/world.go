package dns

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/stubapi"
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

// long is a name as long as a label can be.
var long = strings.Repeat("long-", 12) + "end"

// random puts n Services of every kind, with slices.
func (w *world) random(n int) error {
	for i := range 8 {
		name := fmt.Sprintf("ns-%d", i)
		if i == 7 {
			name = long
		}
		if err := w.namespace(name); err != nil {
			return err
		}
	}
	for i := range n {
		ns, name := of(w.rnd, w.namespaces[2:]...), fmt.Sprintf("svc-%d", i)
		if i%20 == 0 {
			name = fmt.Sprintf("%.*s-%d", 63-1-len(fmt.Sprint(i)), long, i)
		}
		svc := service(ns, name)
		w.addresses(svc, i)
		for j, port := range []string{"http", "dns", "metrics"}[:w.rnd.IntN(4)] {
			protocol := of(w.rnd, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: port, Port: int32(80 + j), Protocol: protocol})
		}
		if len(svc.Spec.Ports) == 1 && w.rnd.IntN(2) == 0 {
			svc.Spec.Ports[0].Name = "" // allowed where there is one
		}
		if err := w.api.Put(svc); err != nil {
			return err
		}
		w.services = append(w.services, name+"."+ns)
		if svc.Spec.Type == corev1.ServiceTypeExternalName {
			continue // slices of one are nobody's: docs/dns.md
		}
		for j := range w.rnd.IntN(4) {
			if err := w.api.Put(w.slice(svc, i, j)); err != nil {
				return err
			}
		}
	}
	return nil
}

// addresses makes a Service of a kind: outside name, headless, one family or both, with an address of a load balancer.
func (w *world) addresses(svc *corev1.Service, i int) {
	four, six := fmt.Sprintf("10.97.%d.%d", i>>8, i&255), fmt.Sprintf("fd00:97::%x", i+1)
	switch kind := w.rnd.IntN(12); {
	case kind < 2:
		svc.Spec.Type = corev1.ServiceTypeExternalName
		svc.Spec.ExternalName = of(w.rnd, "www.example.com", "deep.a.example.com", "WWW.Example.com.", "svc-1.ns-0.svc.cluster.local",
			"svc-2.ns-1.svc.cluster.local", "svc-3.ns-2.svc.cluster.local", "nowhere.invalid", "192.0.2.5", svc.Name+"."+svc.Namespace+".svc.cluster.local")
		return
	case kind < 6:
		svc.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		svc.Spec.PublishNotReadyAddresses = kind == 5
	case kind < 8:
		svc.Spec.ClusterIPs = of(w.rnd, []string{four, six}, []string{six, four})
	case kind < 9:
		svc.Spec.ClusterIPs = []string{six}
	case kind < 10:
		svc.Spec.ClusterIPs = []string{four}
		svc.Spec.Type = corev1.ServiceTypeLoadBalancer
		svc.Spec.ExternalIPs = []string{fmt.Sprintf("198.51.100.%d", i&255)}
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("203.0.113.%d", i&255)}}
		w.addrs = append(w.addrs, svc.Spec.ExternalIPs[0], svc.Status.LoadBalancer.Ingress[0].IP)
	default:
		svc.Spec.ClusterIPs = []string{four}
	}
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	w.addrs = append(w.addrs, svc.Spec.ClusterIPs...)
}

// slice is the j-th slice of the i-th Service.
func (w *world) slice(svc *corev1.Service, i, j int) *discoveryv1.EndpointSlice {
	name := fmt.Sprintf("%.50s-%d-%d", svc.Name, i, j)
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: of(w.rnd, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6),
	}
	for k := range svc.Spec.Ports {
		p := &svc.Spec.Ports[k]
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol})
	}
	for k := range w.rnd.IntN(6) {
		at := j*4 + k + 1 // endpoints that move from one slice to another are in both for a while
		addr := fmt.Sprintf("10.244.%d.%d", i&255, at)
		if out.AddressType == discoveryv1.AddressTypeIPv6 {
			addr = netip.MustParseAddr(fmt.Sprintf("fd00:244:%x::%x", i&255, at)).String()
		}
		e := discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: w.conditions(svc.Spec.PublishNotReadyAddresses)}
		if w.rnd.IntN(3) == 0 {
			host := of(w.rnd, "db", "web-0", "web-1", long)
			e.Hostname = &host
			w.hosts = append(w.hosts, host)
		}
		w.addrs = append(w.addrs, addr)
		out.Endpoints = append(out.Endpoints, e)
	}
	return out
}

// conditions are those that the endpoint slice controller gives to pods that are
// starting, ready or ending; with publishNotReadyAddresses all of them are ready.
func (w *world) conditions(publish bool) (c discoveryv1.EndpointConditions) {
	state := w.rnd.IntN(6)
	if state == 0 {
		return c // nil means ready
	}
	ending, serving := state == 1 || state == 2, state != 2 && state != 3
	ready := publish || serving && !ending
	c.Ready, c.Serving, c.Terminating = &ready, &serving, &ending
	return c
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
