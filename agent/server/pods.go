package server

import (
	"encoding/json"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/internal/model"
)

// pods gives the pods assigned to this node.
func (s *Server) pods(w http.ResponseWriter, _ *http.Request, _ request) {
	list := podList()
	for _, p := range s.deps.Store.Snapshot().Pods.All() {
		list.Items = append(list.Items, *p)
	}
	s.writeJSON(w, list)
}

// runningPods gives the pods that have something running, as the runtime knows them.
func (s *Server) runningPods(w http.ResponseWriter, _ *http.Request, _ request) {
	list := podList()
	for _, rt := range s.deps.Store.Snapshot().Runtime.All() {
		if p, ok := runningPod(rt); ok {
			list.Items = append(list.Items, p)
		}
	}
	s.writeJSON(w, list)
}

func podList() *corev1.PodList {
	return &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, Items: []corev1.Pod{}}
}

// runningPod is a pod as far as the runtime knows it; false when nothing of it runs.
func runningPod(rt *model.PodRuntime) (corev1.Pod, bool) {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: rt.Pod.Name, Namespace: rt.Pod.Namespace, UID: types.UID(rt.UID)}}
	runs := false
	for _, sb := range rt.Sandboxes {
		runs = runs || sb.Ready
	}
	for _, c := range rt.Containers {
		if c.State == model.ContainerRunning {
			runs = true
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c.Name, Image: c.ImageRef})
		}
	}
	return p, runs
}

func (s *Server) writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.deps.Log.Error("kubelet API: encode answer", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(b); err != nil {
		s.deps.Log.Debug("kubelet API: write answer", "err", err)
	}
}
