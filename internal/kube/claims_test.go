package kube

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

func TestClaimsAreReadUntilBoundAndForgottenWithThePod(t *testing.T) {
	phase := make(chan corev1.PersistentVolumeClaimPhase, 3)
	phase <- corev1.ClaimPending
	phase <- corev1.ClaimBound
	api := http.NewServeMux()
	api.HandleFunc("GET /api/v1/namespaces/ns/persistentvolumeclaims/data", func(w http.ResponseWriter, _ *http.Request) {
		c := corev1.PersistentVolumeClaim{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}}
		c.Name, c.ResourceVersion, c.Spec.VolumeName = "data", "2", "pv-1"
		c.Status.Phase = <-phase
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c)
	})
	api.HandleFunc("GET /api/v1/persistentvolumes/pv-1", func(w http.ResponseWriter, _ *http.Request) {
		v := corev1.PersistentVolume{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"}}
		v.Name, v.ResourceVersion = "pv-1", "3"
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	})
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	client, err := New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	s, w := store.New()
	r := &Reflector{Client: client, Log: slog.New(slog.DiscardHandler), Store: s, Writers: w, Node: "n"}
	done := make(chan struct{})
	go func() { defer close(done); r.reflectClaims(t.Context()) }()
	t.Cleanup(func() { <-done })
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	w.Pods.Replace(map[model.UID]*corev1.Pod{"u": pod})
	key := model.Key{Namespace: "ns", Name: "data"}
	until(t, s, "an unbound claim", func(n *store.Snapshot) bool {
		c, ok := n.Claims.Get(key)
		return ok && c.Claim.Status.Phase == corev1.ClaimPending && c.Volume == nil
	})
	until(t, s, "a bound claim", func(n *store.Snapshot) bool {
		c, ok := n.Claims.Get(key)
		return ok && c.Volume != nil && c.Volume.Name == "pv-1"
	})
	w.Pods.Delete("u")
	until(t, s, "no claim", func(n *store.Snapshot) bool { return n.Claims.Len() == 0 })
}
