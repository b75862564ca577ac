package admission

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// resize decides about pods that ask for other resources than they have:
// first those that ask for no more, then by priority, class and time of waiting.
func (d *decider) resize(pods []*corev1.Pod) {
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(
			cmp.Compare(rank(d.increases(a)), rank(d.increases(b))),
			-cmp.Compare(priority(a), priority(b)),
			cmp.Compare(rank(a.Status.QOSClass != corev1.PodQOSGuaranteed), rank(b.Status.QOSClass != corev1.PodQOSGuaranteed)),
			pendingSince(a).Compare(pendingSince(b)),
			cmp.Compare(a.UID, b.UID),
		)
	})
	// What one gives back may be what another waits for.
	for before := -1; before != len(pods); {
		before = len(pods)
		pods = slices.DeleteFunc(pods, d.regrant)
	}
	for _, pod := range pods {
		d.putOff(pod)
	}
}

// regrant gives a pod what it asks for, if there is room; false when not.
func (d *decider) regrant(pod *corev1.Pod) bool {
	uid := model.UID(pod.UID)
	old := d.rows[uid]
	if old.Rejected {
		return true // it has just made room for a critical pod
	}
	if sameResources(pod, old) {
		// Something else of the pod changed, or it was taken back before it was granted.
		row := *old
		row.Pending, row.Generation = nil, pod.Generation
		d.set(&row)
		return true
	}
	if d.node.StaticCPUs && podref.QOS(pod) == corev1.PodQOSGuaranteed && !sameCPU(pod, Granted(pod, old)) {
		d.never(pod, "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\"")
		return true
	}
	if d.node.LimitedSwap && movesSwap(pod, Granted(pod, old)) {
		d.never(pod, "In-place resize of containers with swap is not supported.")
		return true
	}
	if short, other := d.room(pod); len(short)+len(other) > 0 {
		return false
	}
	d.set(grant(pod))
	d.pods[slices.IndexFunc(d.pods, func(p *corev1.Pod) bool { return p.UID == pod.UID })] = pod
	d.notice(uid, false, "ResizeStarted", summary("Pod resize started", pod, ""))
	return true
}

// sameCPU: no container asks for more or less CPU than it was granted.
func sameCPU(pod, granted *corev1.Pod) bool {
	for i := range pod.Spec.Containers {
		a, b := pod.Spec.Containers[i].Resources, granted.Spec.Containers[i].Resources
		if a.Requests.Cpu().Cmp(*b.Requests.Cpu()) != 0 || a.Limits.Cpu().Cmp(*b.Limits.Cpu()) != 0 {
			return false
		}
	}
	return true
}

// never says that a pod cannot have what it asks for on this node.
func (d *decider) never(pod *corev1.Pod, why string) {
	uid := model.UID(pod.UID)
	old := d.rows[uid]
	pending := model.PendingResize{Reason: corev1.PodReasonInfeasible, Message: why, Generation: pod.Generation}
	if old.Pending != nil && *old.Pending == pending {
		return
	}
	row := *old
	row.Pending = &pending
	d.set(&row)
	d.notice(uid, true, "ResizeInfeasible", summary("Pod resize Infeasible", pod, why))
}

// putOff says why a pod does not get what it asks for yet.
func (d *decider) putOff(pod *corev1.Pod) {
	uid := model.UID(pod.UID)
	old := d.rows[uid]
	short, other := d.room(pod)
	for i := range short {
		other = slices.Insert(other, i, *short[i].refusal())
	}
	why := other[0]
	pending := model.PendingResize{Reason: corev1.PodReasonDeferred, Message: why.message, Generation: pod.Generation}
	if old.Pending != nil && *old.Pending == pending {
		return
	}
	row := *old
	row.Pending = &pending
	d.set(&row)
	if old.Pending == nil || old.Pending.Reason != pending.Reason || old.Pending.Generation != pending.Generation {
		d.notice(uid, true, "ResizeDeferred", summary("Pod resize "+why.reason, pod, why.message))
	}
}

// increases: the pod asks for more CPU or memory than it was granted.
func (d *decider) increases(pod *corev1.Pod) bool {
	before, after := podref.Requests(Granted(pod, d.rows[model.UID(pod.UID)])), podref.Requests(pod)
	return after.Cpu().Cmp(*before.Cpu()) > 0 || after.Memory().Cmp(*before.Memory()) > 0
}

func rank(later bool) int {
	if later {
		return 1
	}
	return 0
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// pendingSince is when the pod's request was first put off. One that is new comes after those that wait.
func pendingSince(pod *corev1.Pod) time.Time {
	if c := find(pod.Status.Conditions, corev1.PodResizePending); c != nil {
		return c.LastTransitionTime.Time
	}
	return time.Unix(1<<40, 0)
}

// summary is the text of an event about a resize, in the form that tools which read the kubelet's know.
func summary(what string, pod *corev1.Pod, problem string) string {
	type container struct {
		Name      string                      `json:"name"`
		Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	}
	type text struct {
		InitContainers []container `json:"initContainers,omitempty"`
		Containers     []container `json:"containers,omitempty"`
		Generation     int64       `json:"generation"`
		Error          string      `json:"error,omitempty"`
	}
	t := text{Generation: pod.Generation, Error: problem}
	for _, c := range pod.Spec.InitContainers {
		t.InitContainers = append(t.InitContainers, container{c.Name, c.Resources})
	}
	for _, c := range pod.Spec.Containers {
		t.Containers = append(t.Containers, container{c.Name, c.Resources})
	}
	raw, _ := json.Marshal(t) // API types always marshal
	return what + ": " + string(raw)
}

// ResizeCompleted is the text of the event that ends a resize.
func ResizeCompleted(pod *corev1.Pod) string { return summary("Pod resize completed", pod, "") }

// ResizeError is the text of the event about a resize that fails for now.
func ResizeError(pod *corev1.Pod, problem string) string {
	return summary("Pod resize error", pod, problem)
}
