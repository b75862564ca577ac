package volume

import (
	"iter"
	"maps"
	"reflect"
	"slices"

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
		if prev == nil || next.Pods.Synced() && !prev.Pods.Synced() {
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

// referring yields the pods that refer to a ConfigMap, Secret, claim or trust bundle that
// changed, and those with claims when what they can be used for may have
// changed: CSI drivers, the node, what other pods hold.
func referring(prev, next *store.Snapshot) iter.Seq[model.UID] {
	return func(yield func(model.UID) bool) {
		changed := map[model.ConfigKey]bool{}
		for d := range next.Configs.Since(prev.Configs) {
			changed[d.Key] = true
		}
		claims := map[model.Key]bool{}
		for d := range next.Claims.Since(prev.Claims) {
			claims[d.Key] = true
		}
		for d := range next.Volumes.Since(prev.Volumes) {
			for _, key := range released(d) {
				claims[key] = true
			}
		}
		around := next.Drivers.Last() != prev.Drivers.Last() || nodesMatter(prev, next)
		trust := next.TrustBundles.Last() != prev.TrustBundles.Last()
		if len(changed) == 0 && len(claims) == 0 && !around && !trust {
			return
		}
		for uid, pod := range next.Pods.All() {
			if (refersTo(pod, changed) || wantsClaim(pod, claims, around) || trust && podref.TrustBundles(pod)) && !yield(uid) {
				return
			}
		}
	}
}

// released gives the claims that a pod no longer has.
func released(d store.Delta[model.UID, *model.PodVolumes]) []model.Key {
	var out []model.Key
	if !d.Was {
		return nil
	}
	for _, key := range d.Old.Claims {
		if !d.Is || !slices.Contains(d.New.Claims, key) {
			out = append(out, key)
		}
	}
	return out
}

// nodesMatter: the first list of the nodes has come, so that this one's labels are known.
func nodesMatter(prev, next *store.Snapshot) bool {
	return next.Nodes.Synced() && !prev.Nodes.Synced()
}

// wantsClaim reports whether a pod has a volume behind one of these claims, or, with any, of a kind that a claim may have.
func wantsClaim(pod *corev1.Pod, claims map[model.Key]bool, any bool) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		name, ok := podref.ClaimName(pod, v)
		if any && (ok || v.CSI != nil) || ok && claims[model.Key{Namespace: pod.Namespace, Name: name}] {
			return true
		}
	}
	return false
}

func refersTo(pod *corev1.Pod, changed map[model.ConfigKey]bool) bool {
	for _, key := range podref.References(pod) {
		if changed[key] {
			return true
		}
	}
	return false
}
