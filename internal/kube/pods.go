package kube

import (
	"maps"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/store"
)

// podOf keeps the pod as it is, less what nobody reads, and less the mark of
// static pods: those are not told to us by the API.
func podOf(o any) (model.UID, *corev1.Pod, bool) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return "", nil, false
	}
	p.ManagedFields = nil
	if _, claimed := p.Annotations[podref.SourceAnnotation]; claimed && !podref.IsMirror(p) {
		p.Annotations = maps.Clone(p.Annotations)
		delete(p.Annotations, podref.SourceAnnotation)
	}
	return model.UID(p.UID), p, true
}

// podSink tells the pods of the API from the images of static pods there. Of
// the table Pods it writes and removes the API's rows only.
type podSink struct {
	pods, mirrors *store.Writer[model.UID, *corev1.Pod]
}

func (s podSink) Add(o any) error {
	if uid, pod, ok := podOf(o); ok {
		s.of(pod).Set(uid, pod)
	}
	return nil
}

func (s podSink) Update(o any) error { return s.Add(o) }

func (s podSink) Delete(o any) error {
	if uid, pod, ok := podOf(o); ok {
		s.of(pod).Delete(uid)
	}
	return nil
}

func (s podSink) of(pod *corev1.Pod) *store.Writer[model.UID, *corev1.Pod] {
	if podref.IsMirror(pod) {
		return s.mirrors
	}
	return s.pods
}

func (s podSink) Replace(list []any, _ string) error {
	pods, mirrors := map[model.UID]*corev1.Pod{}, map[model.UID]*corev1.Pod{}
	for _, o := range list {
		uid, pod, ok := podOf(o)
		switch {
		case !ok:
		case podref.IsMirror(pod):
			mirrors[uid] = pod
		default:
			pods[uid] = pod
		}
	}
	s.mirrors.Replace(mirrors)
	s.pods.Commit(func(tx *store.Tx[model.UID, *corev1.Pod]) {
		for uid, pod := range tx.Before().All() {
			if _, ok := pods[uid]; !ok && !podref.IsStatic(pod) {
				tx.Delete(uid)
			}
		}
		for uid, pod := range pods {
			tx.Set(uid, pod)
		}
		tx.Synced()
	})
	return nil
}

func (s podSink) Resync() error { return nil }
