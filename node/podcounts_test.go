package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/metrics"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// What is done about each kind of pod: wanted, ending, ended, evicted, rejected, static, unknown to the API.
func TestPodCounts(t *testing.T) {
	s, w := store.New()
	now := metav1.Now()
	pods := map[model.UID]*corev1.Pod{
		"runs": {}, "ends": {ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}, "ended": {Status: corev1.PodStatus{Phase: corev1.PodSucceeded}},
		"evicted": {}, "rejected": {}, "static": {ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"kubernetes.io/config.source": "file"}}},
	}
	pods["runs"].Spec.EphemeralContainers = make([]corev1.EphemeralContainer, 2)
	runtime := map[model.UID]*model.PodRuntime{}
	for _, uid := range []model.UID{"runs", "ends", "evicted", "static", "unknown"} {
		runtime[uid] = &model.PodRuntime{UID: uid, Containers: []model.Container{{State: model.ContainerRunning}}, Sandboxes: []model.Sandbox{{Ready: true}}}
	}
	w.Runtime.Replace(runtime)
	w.Evictions.Set("evicted", &model.Eviction{UID: "evicted"})
	w.Allocations.Set("rejected", &model.Allocation{UID: "rejected", Rejected: true})
	if c := podCounts(s.Snapshot()); c.WorkingPods[metrics.WorkingPod{Lifecycle: "terminating", Config: "runtime_only", Static: "unknown"}] != 0 {
		t.Error("before the API's pods are listed nobody knows that a pod is not wanted")
	}
	w.Pods.Replace(pods)
	got := podCounts(s.Snapshot())
	want := metrics.Counts{
		DesiredPods: map[bool]int{false: 5, true: 1}, ActivePods: map[bool]int{false: 4, true: 1}, RunningPods: 5,
		RunningContainers: map[string]int{"running": 5}, EphemeralContainers: 2,
		WorkingPods: map[metrics.WorkingPod]int{
			{Lifecycle: "sync", Config: "desired"}: 1, {Lifecycle: "sync", Config: "desired", Static: "true"}: 1, {Lifecycle: "sync", Config: "runtime_only", Static: "unknown"}: 0,
			{Lifecycle: "terminating", Config: "desired"}: 2, {Lifecycle: "terminating", Config: "desired", Static: "true"}: 0, {Lifecycle: "terminating", Config: "runtime_only", Static: "unknown"}: 1,
			{Lifecycle: "terminated", Config: "desired"}: 2, {Lifecycle: "terminated", Config: "desired", Static: "true"}: 0, {Lifecycle: "terminated", Config: "runtime_only", Static: "unknown"}: 0,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
