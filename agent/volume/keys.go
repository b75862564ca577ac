package volume

import (
	"iter"
	"maps"
	"reflect"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/store"
)

// keys yields the pods to look at: those that changed, those that refer to
// something that changed, those that are over and whose containers changed,
// and at the start all that have anything on disk.
func keys(prev, next *store.Snapshot) iter.Seq[model.UID] {
	return func(yield func(model.UID) bool) {
		if prev == nil {
			prev = &store.Snapshot{}
			for uid := range next.Volumes.All() {
				if !yield(uid) {
					return
				}
			}
		}
		for d := range next.Pods.Since(prev.Pods) {
			if (!d.Was || !d.Is || matters(d.Old, d.New)) && !yield(d.Key) {
				return
			}
		}
		for d := range next.Runtime.Since(prev.Runtime) {
			if pod, ok := next.Pods.Get(d.Key); (!ok || over(pod)) && !yield(d.Key) {
				return
			}
		}
		for uid := range referring(prev, next) {
			if !yield(uid) {
				return
			}
		}
	}
}

// matters reports whether a change of a pod can change its volumes: most
// changes are of the status, and a look at the disk costs up to a millisecond.
func matters(old, pod *corev1.Pod) bool {
	return over(old) != over(pod) || !maps.Equal(old.Labels, pod.Labels) || !maps.Equal(old.Annotations, pod.Annotations) ||
		!reflect.DeepEqual(&old.Spec, &pod.Spec)
}

// referring yields the pods that refer to a ConfigMap or Secret that changed.
func referring(prev, next *store.Snapshot) iter.Seq[model.UID] {
	return func(yield func(model.UID) bool) {
		changed := map[model.ConfigKey]bool{}
		for d := range next.Configs.Since(prev.Configs) {
			changed[d.Key] = true
		}
		if len(changed) == 0 {
			return
		}
		for uid, pod := range next.Pods.All() {
			if refersTo(pod, changed) && !yield(uid) {
				return
			}
		}
	}
}

func refersTo(pod *corev1.Pod, changed map[model.ConfigKey]bool) bool {
	for _, key := range podref.References(pod) {
		if changed[key] {
			return true
		}
	}
	return false
}
