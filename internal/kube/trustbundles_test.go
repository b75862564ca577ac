package kube

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
	"nodelet/internal/store"
	"nodelet/internal/stubapi"
)

func trustingPod() *corev1.Pod {
	name, pod := "anchors", &corev1.Pod{}
	pod.Name, pod.Namespace, pod.UID = "p", "ns", "u"
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: &name, Path: "ca"}}}}}}}
	return pod
}

func reflectBundles(t *testing.T, url string) (*store.Store, *store.Writers) {
	t.Helper()
	client, err := New(&rest.Config{Host: url})
	if err != nil {
		t.Fatal(err)
	}
	s, w := store.New()
	r := &Reflector{Client: client, Log: slog.New(slog.DiscardHandler), Node: "n", Store: s, Writers: w}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.reflectTrustBundles(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s, w
}

// Bundles are read from a server that knows v1beta1 only, and only once a pod wants one.
func TestReflectsTrustBundles(t *testing.T) {
	api, err := stubapi.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	o := &certificatesv1beta1.ClusterTrustBundle{}
	o.Name, o.Labels = "example.com:a:b", map[string]string{"live": "yes"}
	o.Spec.SignerName, o.Spec.TrustBundle = "example.com/a", "pem"
	if err := api.Put(o); err != nil {
		t.Fatal(err)
	}
	s, w := reflectBundles(t, api.URL())
	w.Pods.Replace(nil)
	w.Pods.Set("u", trustingPod())
	key := model.Key{Name: o.Name}
	until(t, s, "the bundle", func(n *store.Snapshot) bool {
		got, ok := n.TrustBundles.Get(key)
		return ok && n.TrustBundles.Synced() && got.Signer == "example.com/a" && got.Anchors == "pem" && got.Labels["live"] == "yes"
	})
	o.Spec.TrustBundle = "other"
	if err := api.Put(o); err != nil {
		t.Fatal(err)
	}
	until(t, s, "its change", func(n *store.Snapshot) bool { got, _ := n.TrustBundles.Get(key); return got.Anchors == "other" })
	if err := api.Delete(o); err != nil {
		t.Fatal(err)
	}
	until(t, s, "its end", func(n *store.Snapshot) bool { return n.TrustBundles.Len() == 0 })
}

// A server that does not serve the kind is not asked before a pod wants it, and then the table says why it is empty.
func TestTrustBundlesNotServed(t *testing.T) {
	asked := make(chan string, 1000)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		http.NotFound(w, r)
	}))
	defer srv.Close()
	s, w := reflectBundles(t, srv.URL)
	w.Pods.Replace(nil)
	w.Pods.Set("other", &corev1.Pod{})
	if len(asked) > 0 {
		t.Errorf("asked for %s before a pod wants it", <-asked)
	}
	w.Pods.Set("u", trustingPod())
	snap := until(t, s, "the reason", func(n *store.Snapshot) bool { return n.TrustBundles.Len() == 1 })
	row, _ := snap.TrustBundles.Get(model.Key{})
	if row == nil || !strings.Contains(row.Problem, "the API server serves no ClusterTrustBundles") || snap.TrustBundles.Synced() {
		t.Errorf("row %v, synced %t", row, snap.TrustBundles.Synced())
	}
	if first, second := <-asked, <-asked; first != "/apis/certificates.k8s.io/v1/clustertrustbundles" || second != "/apis/certificates.k8s.io/v1beta1/clustertrustbundles" {
		t.Errorf("asked for %s, %s", first, second)
	}
}
