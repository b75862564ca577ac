package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/store"
)

func podWith(uid string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: uid, UID: types.UID(uid), ResourceVersion: "1", Annotations: annotations}}
}

// The API's list of pods leaves the node's own alone, and keeps their images apart.
func TestPodSink(t *testing.T) {
	s, w := store.New()
	sink := podSink{w.Pods, w.Mirrors}
	w.Pods.Set("own", podWith("own", map[string]string{podref.SourceAnnotation: "file"}))
	if s.Snapshot().Pods.Synced() {
		t.Error("a static pod made the table synced")
	}
	mirror := podWith("m", map[string]string{podref.SourceAnnotation: "file", corev1.MirrorPodAnnotationKey: "h"})
	for _, list := range [][]any{{podWith("a", nil), mirror}, {podWith("b", nil)}} {
		if err := sink.Replace(list, "1"); err != nil {
			t.Fatal(err)
		}
		snap := s.Snapshot()
		if _, ok := snap.Pods.Get("own"); !ok || !snap.Pods.Synced() || !snap.Mirrors.Synced() || snap.Pods.Len() != 2 || snap.Mirrors.Len() != len(list)-1 {
			t.Fatalf("after %d: own %t, pods %d, mirrors %d", len(list), ok, snap.Pods.Len(), snap.Mirrors.Len())
		}
	}
	for _, do := range []func(any) error{sink.Add, sink.Update, sink.Delete} {
		if err := do(mirror); err != nil {
			t.Fatal(err)
		}
		if _, ok := s.Snapshot().Pods.Get(model.UID("m")); ok {
			t.Fatal("an image is taken for a pod")
		}
	}
}

// A user must not be able to pass a pod off as the node's own: those are
// critical, and take the place of others.
func TestNobodyClaimsToBeStatic(t *testing.T) {
	claimed := podWith("a", map[string]string{podref.SourceAnnotation: "file", "other": "kept"})
	_, pod, _ := podOf(claimed)
	if podref.IsStatic(pod) || pod.Annotations["other"] != "kept" {
		t.Errorf("annotations %v", pod.Annotations)
	}
}
