package agent

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// beginning is what is noted of the start of a pod, to measure it.
type beginning struct {
	// seen is when this process first saw the pod; begun: a round about it was made.
	seen  time.Time
	begun bool
	// running: all its containers have run, or it was beyond that when it was first seen.
	running bool
	// pulling is since when an image of it is being pulled, zero when none is; pulled is how long that took before.
	pulling time.Time
	pulled  time.Duration
	// wanted: it was in the API, or was a static pod, at some time.
	wanted bool
}

// noteFirst notes a round about a pod: its first one, and whether an image is being pulled for it.
func (a *Agent) noteFirst(snap *store.Snapshot, uid model.UID, now time.Time) {
	pod, there := snap.Pods.Get(uid)
	_, runs := snap.Runtime.Get(uid)
	orphan, first := false, false
	var waited time.Duration
	a.notes.edit(uid, func(p *podNotes) {
		if first = !p.begun && there; first && pod.Status.Phase != corev1.PodPending && pod.Status.Phase != "" {
			p.running = true
		}
		orphan = !p.begun && !p.wanted && runs && snap.Pods.Missing(uid)
		p.begun, p.wanted = p.begun || first || orphan, p.wanted || there
		waited = now.Sub(p.seen)
		if there && !p.running {
			p.pull(pulls(snap, pod), now)
		}
	})
	if first {
		a.deps.Metrics.Begun(waited)
	}
	if orphan {
		a.deps.Metrics.Orphaned()
	}
}

// pull notes whether an image is being pulled now.
func (b *beginning) pull(now bool, at time.Time) {
	switch {
	case now && b.pulling.IsZero():
		b.pulling = at
	case !now && !b.pulling.IsZero():
		b.pulled += at.Sub(b.pulling)
		b.pulling = time.Time{}
	}
}

// pulls tells whether an image of the pod is being pulled.
func pulls(snap *store.Snapshot, pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			img, ok := snap.Images.Get(model.ImageRef(list[i].Image))
			if !ok {
				continue
			}
			for _, p := range img.Pulls {
				if p.State == model.ImagePulling {
					return true
				}
			}
		}
	}
	return false
}

// noteRunning counts how long the pod took, the first time that all of it runs.
func (a *Agent) noteRunning(snap *store.Snapshot, pod *corev1.Pod, status *corev1.PodStatus, now time.Time) {
	if pod == nil || status == nil || status.Phase != corev1.PodRunning {
		return
	}
	uid := model.UID(pod.UID)
	first := false
	var pulled time.Duration
	a.notes.edit(uid, func(p *podNotes) { first, p.running, pulled = !p.running, true, p.pulled })
	if !first {
		return
	}
	total := max(now.Sub(pod.CreationTimestamp.Time), 0)
	a.deps.Metrics.Running(total)
	if rt, ok := snap.Runtime.Get(uid); ok && stateless(pod) {
		a.deps.Metrics.Ready(max(total-pulled-initTime(pod, rt), 0))
	}
}

// stateless: all volumes are made from what the API has, or empty. Others take as long as they take.
func stateless(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Secret == nil && v.ConfigMap == nil && v.DownwardAPI == nil && v.EmptyDir == nil && v.Projected == nil {
			return false
		}
	}
	return true
}

// initTime is how long the init containers ran that have ended.
func initTime(pod *corev1.Pod, rt *model.PodRuntime) (sum time.Duration) {
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			continue // it goes on
		}
		for j := range rt.Containers {
			if r := &rt.Containers[j]; r.Name == c.Name && r.State == model.ContainerExited && !r.Started.IsZero() {
				sum += max(r.Finished.Sub(r.Started), 0)
			}
		}
	}
	return sum
}
