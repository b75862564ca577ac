package stubapi

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Server is the API server.
type Server struct {
	listener net.Listener
	http     http.Server

	mu      sync.Mutex
	version int
	kinds   map[string]*kind // by path
}

type kind struct {
	list, item, group string
	objects           map[string]encoded // by namespace/name
	// events are the last ones; gone is how many there were before.
	events  []event
	gone    int
	changed chan struct{}
}

// kept is how many events there are for watchers that are behind; the oldest half of more is forgotten.
const kept = 100_000

type event struct {
	version int
	verb    string
	object  encoded
}

var paths = map[string][3]string{
	"/api/v1/namespaces": {"NamespaceList", "Namespace", "v1"},
	"/api/v1/services":   {"ServiceList", "Service", "v1"},
	"/api/v1/pods":       {"PodList", "Pod", "v1"},
	"/api/v1/nodes":      {"NodeList", "Node", "v1"},
	"/apis/discovery.k8s.io/v1/endpointslices":   {"EndpointSliceList", "EndpointSlice", "discovery.k8s.io/v1"},
	"/apis/networking.k8s.io/v1/servicecidrs":    {"ServiceCIDRList", "ServiceCIDR", "networking.k8s.io/v1"},
	"/apis/networking.k8s.io/v1/networkpolicies": {"NetworkPolicyList", "NetworkPolicy", "networking.k8s.io/v1"},

	"/apis/certificates.k8s.io/v1beta1/clustertrustbundles": {"ClusterTrustBundleList", "ClusterTrustBundle", "certificates.k8s.io/v1beta1"},
}

// Start listens on a free port of loopback.
func Start() (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the stub API: %w", err)
	}
	return Serve(l), nil
}

// Serve serves at a listener, which Close closes.
func Serve(l net.Listener) *Server {
	s := &Server{listener: l, version: 1, kinds: map[string]*kind{}}
	for path, k := range paths {
		s.kinds[path] = &kind{list: k[0], item: k[1], group: k[2], objects: map[string]encoded{}, changed: make(chan struct{})}
	}
	s.http.Handler = http.HandlerFunc(s.serve)
	go func() { _ = s.http.Serve(l) }() // ends with Close
	return s
}

// URL is where the server is.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close ends all watches.
func (s *Server) Close() { _ = s.http.Close() }

// Put adds an object or replaces the one of the same name. It sets its resource version.
func (s *Server) Put(o metav1.Object) error { return s.note(o, "") }

// Delete removes an object; it need not be there.
func (s *Server) Delete(o metav1.Object) error { return s.note(o, "DELETED") }

// note keeps what was done to an object; an empty verb is to put it there.
func (s *Server) note(o metav1.Object, verb string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.kindOf(o)
	if err != nil {
		return err
	}
	key := o.GetNamespace() + "/" + o.GetName()
	_, is := k.objects[key]
	if !is && verb != "" {
		return nil
	}
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	data, err := encode(o)
	if err != nil {
		return fmt.Errorf("encode %s: %w", o.GetName(), err)
	}
	switch {
	case verb != "":
		delete(k.objects, key)
	case is:
		verb, k.objects[key] = "MODIFIED", data
	default:
		verb, k.objects[key] = "ADDED", data
	}
	k.events = append(k.events, event{s.version, verb, data})
	if len(k.events) > kept {
		k.gone += kept / 2
		k.events = append([]event(nil), k.events[kept/2:]...)
	}
	close(k.changed)
	k.changed = make(chan struct{})
	return nil
}

// kindOf finds the kind of an object, and writes it into the object.
func (s *Server) kindOf(o metav1.Object) (*kind, error) {
	var path string
	switch o := o.(type) {
	case *corev1.Namespace:
		path, o.TypeMeta = "/api/v1/namespaces", metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}
	case *corev1.Service:
		path, o.TypeMeta = "/api/v1/services", metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
	case *corev1.Pod:
		path, o.TypeMeta = "/api/v1/pods", metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	case *corev1.Node:
		path, o.TypeMeta = "/api/v1/nodes", metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}
	case *discoveryv1.EndpointSlice:
		path, o.TypeMeta = "/apis/discovery.k8s.io/v1/endpointslices", metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}
	case *networkingv1.ServiceCIDR:
		path, o.TypeMeta = "/apis/networking.k8s.io/v1/servicecidrs", metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"}
	case *certificatesv1beta1.ClusterTrustBundle:
		path, o.TypeMeta = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles", metav1.TypeMeta{APIVersion: "certificates.k8s.io/v1beta1", Kind: "ClusterTrustBundle"}
	default:
		return nil, fmt.Errorf("serve %T: the stub API does not know the kind", o)
	}
	return s.kinds[path], nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	k := s.kinds[strings.TrimSuffix(r.URL.Path, "/")]
	if k == nil || r.Method != http.MethodGet {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound,
		})
		return
	}
	as := formatOf(r.Header.Get("Accept"))
	if r.FormValue("watch") != "" {
		w.Header().Set("Content-Type", as.watchType())
		s.watch(w, r, k)
		return
	}
	w.Header().Set("Content-Type", as.listType())
	s.mu.Lock()
	defer s.mu.Unlock()
	as.list(w, k, s.version)
}

// watch sends what is there, when asked to, and then every event.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, k *kind) {
	as := formatOf(r.Header.Get("Accept"))
	s.mu.Lock()
	after, _ := strconv.Atoi(r.FormValue("resourceVersion"))
	if r.FormValue("sendInitialEvents") == "true" {
		after = s.version
		for _, o := range k.objects {
			as.event(w, k, "ADDED", o)
		}
		as.event(w, k, "BOOKMARK", bookmark(k, s.version))
	}
	at := k.gone
	for at < k.gone+len(k.events) && k.events[at-k.gone].version <= after {
		at++
	}
	s.mu.Unlock()
	for {
		w.(http.Flusher).Flush()
		s.mu.Lock()
		if at < k.gone {
			s.mu.Unlock()
			return // too far behind: who watches lists again
		}
		events, changed := k.events[at-k.gone:], k.changed
		at = k.gone + len(k.events)
		s.mu.Unlock()
		for _, e := range events {
			as.event(w, k, e.verb, e.object)
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}
