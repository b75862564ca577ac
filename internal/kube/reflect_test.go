package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// fakeAPI serves streaming lists of a few objects and passes on what is sent later.
type fakeAPI struct {
	mu      sync.Mutex
	objects map[string][]runtime.Object // by path, and "?fieldSelector" where one is used
	later   map[string]chan metav1.WatchEvent
	asked   []string
	down    bool
	ended   chan string // receives the keys of watches that clients ended; may be nil
}

func (f *fakeAPI) key(r *http.Request) string {
	k := r.URL.Path
	if s := r.FormValue("fieldSelector"); s != "" {
		k += "?" + s
	}
	return k
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	key, down := f.key(r), f.down
	f.asked = append(f.asked, key)
	objects := f.objects[key]
	later := f.later[key]
	if later == nil {
		later = make(chan metav1.WatchEvent, 10)
		f.later[key] = later
	}
	f.mu.Unlock()
	if down || r.FormValue("watch") == "" {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	for _, o := range objects {
		_ = enc.Encode(metav1.WatchEvent{Type: "ADDED", Object: runtime.RawExtension{Object: o}})
	}
	end := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: kindOf(r.URL.Path)}}
	end.ResourceVersion = "10"
	end.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	if strings.HasSuffix(r.URL.Path, "endpointslices") {
		end.APIVersion = "discovery.k8s.io/v1"
	}
	if strings.HasSuffix(r.URL.Path, "runtimeclasses") {
		end.APIVersion = "node.k8s.io/v1"
	}
	if strings.HasSuffix(r.URL.Path, "csidrivers") {
		end.APIVersion = "storage.k8s.io/v1"
	}
	_ = enc.Encode(metav1.WatchEvent{Type: "BOOKMARK", Object: runtime.RawExtension{Object: end}})
	w.(http.Flusher).Flush()
	for {
		select {
		case e := <-later:
			_ = enc.Encode(e)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			if f.ended != nil {
				f.ended <- key
			}
			return
		}
	}
}

func kindOf(path string) string {
	for suffix, kind := range map[string]string{"services": "Service", "endpointslices": "EndpointSlice", "nodes": "Node", "pods": "Pod", "configmaps": "ConfigMap", "secrets": "Secret", "csidrivers": "CSIDriver", "runtimeclasses": "RuntimeClass"} {
		if strings.HasSuffix(path, suffix) {
			return kind
		}
	}
	return ""
}

func (f *fakeAPI) send(key, event string, o runtime.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.later[key] <- metav1.WatchEvent{Type: event, Object: runtime.RawExtension{Object: o}}
}

// until waits for a snapshot that satisfies ok.
func until(t *testing.T, s *store.Store, what string, ok func(*store.Snapshot) bool) *store.Snapshot {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		snap := s.Snapshot()
		if ok(snap) {
			return snap
		}
		select {
		case <-snap.Changed():
		case <-limit:
			t.Fatalf("%s: never; tables: pods %d services %d configs %d", what, snap.Pods.Len(), snap.Services.Len(), snap.Configs.Len())
		}
	}
}

func pod(name string, maps ...string) *corev1.Pod {
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	p.Namespace, p.Name, p.UID, p.ResourceVersion = "ns", name, types.UID("uid-"+name), "3"
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
	for _, m := range maps {
		v := corev1.Volume{Name: m}
		v.ConfigMap = &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: m}}
		p.Spec.Volumes = append(p.Spec.Volumes, v)
	}
	return p
}

func configMap(name, value string) *corev1.ConfigMap {
	c := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Data: map[string]string{"k": value}}
	c.Namespace, c.Name, c.ResourceVersion = "ns", name, "11"
	return c
}

const (
	podsOfN = "/api/v1/pods?spec.nodeName=n"
	mapA    = "/api/v1/namespaces/ns/configmaps?metadata.name=a"
	mapB    = "/api/v1/namespaces/ns/configmaps?metadata.name=b"
)

func startReflector(t *testing.T, api *fakeAPI) (*store.Store, *Contact) {
	t.Helper()
	api.later = map[string]chan metav1.WatchEvent{}
	srv := httptest.NewServer(api)
	client, err := New(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	s, w := store.New()
	contact := &Contact{Log: slog.New(slog.DiscardHandler), Host: srv.URL}
	r := &Reflector{Client: client, Log: slog.New(slog.DiscardHandler), Node: "n", Store: s, Writers: w, Agent: true, Contact: contact}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		srv.CloseClientConnections()
		<-done
		srv.Close()
	})
	return s, contact
}

func TestReflectsPodsOfThisNodeAndWhatTheyReferTo(t *testing.T) {
	api := &fakeAPI{objects: map[string][]runtime.Object{podsOfN: {pod("p", "a", "b")}, mapA: {configMap("a", "1")}}}
	s, _ := startReflector(t, api)
	keyA := model.ConfigKey{Key: model.Key{Namespace: "ns", Name: "a"}}
	keyB := model.ConfigKey{Key: model.Key{Namespace: "ns", Name: "b"}}
	snap := until(t, s, "pod and its config maps", func(n *store.Snapshot) bool { return n.Configs.Len() == 2 })
	if p, ok := snap.Pods.Get("uid-p"); !ok || p.ManagedFields != nil {
		t.Fatalf("pod %v %t", p, ok)
	}
	if a, _ := snap.Configs.Get(keyA); a.Missing || string(a.Data["k"]) != "1" {
		t.Fatalf("a: %v", a)
	}
	if b, _ := snap.Configs.Get(keyB); !b.Missing {
		t.Fatalf("b does not exist, but: %v", b)
	}
	api.send(mapB, "ADDED", configMap("b", "2"))
	until(t, s, "config map b appears", func(n *store.Snapshot) bool {
		b, ok := n.Configs.Get(keyB)
		return ok && !b.Missing && string(b.Data["k"]) == "2"
	})
	api.send(mapA, "DELETED", configMap("a", "1"))
	until(t, s, "config map a is gone", func(n *store.Snapshot) bool {
		a, ok := n.Configs.Get(keyA)
		return ok && a.Missing
	})
	api.send(podsOfN, "DELETED", pod("p", "a", "b"))
	until(t, s, "nothing is referred to any more", func(n *store.Snapshot) bool { return n.Pods.Len() == 0 && n.Configs.Len() == 0 })
	for _, asked := range api.asked {
		if asked == "/api/v1/pods" {
			t.Error("asked for the pods of all nodes")
		}
	}
}

// What is immutable costs no watch, and keeps its content for those who refer to it; what was made
// anew by the same name is read for pods that come later (KEP-1412).
func TestImmutableObjectsAreReadOnce(t *testing.T) {
	immutable := func(value string) *corev1.ConfigMap {
		c, yes := configMap("a", value), true
		c.Immutable = &yes
		return c
	}
	api := &fakeAPI{objects: map[string][]runtime.Object{podsOfN: {pod("p", "a", "b")}, mapA: {immutable("1")}}, ended: make(chan string, 100)}
	s, _ := startReflector(t, api)
	key := model.ConfigKey{Key: model.Key{Namespace: "ns", Name: "a"}}
	holds := func(value string) func(*store.Snapshot) bool {
		return func(n *store.Snapshot) bool {
			a, ok := n.Configs.Get(key)
			return ok && string(a.Data["k"]) == value
		}
	}
	until(t, s, "the immutable map and the other", func(n *store.Snapshot) bool { return holds("1")(n) && n.Configs.Len() == 2 })
	awaitEnd := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-api.ended:
				if got == want {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("the watch of %s goes on", want)
			}
		}
	}
	awaitEnd(mapA)

	// One that becomes immutable later, while the other has got another content.
	api.mu.Lock()
	api.objects[mapA] = []runtime.Object{immutable("2")}
	api.mu.Unlock()
	late, yes := configMap("b", "3"), true
	late.Immutable = &yes
	api.send(mapB, "ADDED", late)
	awaitEnd(mapB)
	if !holds("1")(s.Snapshot()) {
		t.Error("the immutable map has changed")
	}

	api.send(podsOfN, "DELETED", pod("p", "a", "b"))
	until(t, s, "nobody refers to it", func(n *store.Snapshot) bool { return n.Configs.Len() == 0 })
	api.send(podsOfN, "ADDED", pod("q", "a"))
	until(t, s, "the new map", holds("2"))
	awaitEnd(mapA)
}

func TestSyncedOnlyAfterTheFullList(t *testing.T) {
	api := &fakeAPI{down: true}
	s, contact := startReflector(t, api)
	deadline := time.After(20 * time.Second)
	for since, _ := contact.Lost(); since.IsZero(); since, _ = contact.Lost() {
		select {
		case <-deadline:
			t.Fatal("nobody noticed that the API server does not answer")
		case <-time.After(time.Millisecond):
		}
	}
	if s.Snapshot().Services.Synced() {
		t.Fatal("synced without an answer")
	}
	api.mu.Lock()
	api.down = false
	api.mu.Unlock()
	until(t, s, "all tables synced", func(n *store.Snapshot) bool {
		return n.Services.Synced() && n.Slices.Synced() && n.Nodes.Synced() && n.Pods.Synced()
	})
	for since, reason := contact.Lost(); !since.IsZero(); since, reason = contact.Lost() {
		select {
		case <-deadline:
			t.Fatalf("still lost: %s", reason)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestLoadSaysWhatIsWrongWithTheKubeconfig(t *testing.T) {
	if _, err := Load("/no/such/file", "test", Rate{}); err == nil || !strings.Contains(err.Error(), "--kubeconfig") || !strings.Contains(err.Error(), "/no/such/file") {
		t.Fatalf("error %v", err)
	}
}

func TestEndpointAddressesAreNotTakenOnTrust(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1", "fe80::1", "::ffff:10.0.0.1", "x", ""} {
		t.Run(addr, func(t *testing.T) {
			e := discoveryEndpoint(addr)
			if got, ok := newNames().endpoint(&e, strings.Contains(addr, ":")); ok {
				t.Errorf("accepted %v", got)
			}
		})
	}
	e := discoveryEndpoint("10.0.0.1")
	if got, ok := newNames().endpoint(&e, false); !ok || !got.Ready || !got.Serving || got.Terminating {
		t.Errorf("10.0.0.1: %v %t, want ready by default", got, ok)
	}
	if s := fmt.Sprint(model.Endpoint{Addr: e2addr("10.0.0.1"), Terminating: true}); s != "10.0.0.1=terminating" {
		t.Errorf("prints as %q", s)
	}
}
