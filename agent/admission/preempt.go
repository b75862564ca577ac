package admission

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// Preempted is the reason of pods that make room for a critical one.
const Preempted = "Preempting"

const preemptedMessage = "Preempted in order to admit critical pod"

// preempt makes other pods give way to a critical one, which starts after them, or says why that would not do.
func (d *decider) preempt(pod *corev1.Pod, short []shortage) (after []model.UID, r *refusal) {
	victims, ok := victims(pod, d.pods, short)
	if !ok {
		return nil, &refusal{"UnexpectedAdmissionError", "Unexpected error while attempting to recover from admission failure: " +
			"preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: " + left(short)}
	}
	for _, v := range victims {
		uid := model.UID(v.UID)
		after = append(after, uid)
		row := *d.rows[uid]
		row.Rejected, row.Preempted, row.Reason, row.Message = true, true, Preempted, preemptedMessage
		d.set(&row)
		d.out.Notices = append(d.out.Notices, Notice{UID: uid, Warning: true, Reason: Preempted, Message: preemptedMessage, Short: short[0].name})
		d.pods = slices.DeleteFunc(d.pods, func(p *corev1.Pod) bool { return p.UID == v.UID })
	}
	return after, nil
}

func left(short []shortage) string {
	var b strings.Builder
	for _, s := range short {
		fmt.Fprintf(&b, "(res: %v, q: %d), ", s.name, s.missing())
	}
	return "[" + b.String() + "]"
}

// need is what must become free, by resource.
type need map[corev1.ResourceName]int64

// without is what is still needed when these pods are gone.
func (n need) without(pods ...*corev1.Pod) need {
	out := need{}
	for name, missing := range n {
		for _, p := range pods {
			missing -= has(p, name)
		}
		if missing > 0 {
			out[name] = missing
		}
	}
	return out
}

// distance is how far from enough one pod is: the sum over the resources of
// the squared part that would still be missing.
func (n need) distance(pod *corev1.Pod) float64 {
	sum := 0.0
	for name, missing := range n {
		if part := float64(missing-has(pod, name)) / float64(missing); part > 0 {
			sum += part * part
		}
	}
	return sum
}

func has(pod *corev1.Pod, name corev1.ResourceName) int64 {
	if name == corev1.ResourcePods {
		return 1
	}
	return amount(name, podref.Requests(pod)[name])
}

// victims chooses pods by whose end enough becomes free: as few as possible of
// the better classes, and of a class those that come closest to what is needed.
func victims(pod *corev1.Pod, pods []*corev1.Pod, short []shortage) ([]*corev1.Pod, bool) {
	all := need{}
	for _, s := range short {
		all[s.name] = s.missing()
	}
	classes := map[corev1.PodQOSClass][]*corev1.Pod{}
	for _, p := range pods {
		if p.DeletionTimestamp == nil && mayTakePlaceOf(pod, p) {
			classes[podref.QOS(p)] = append(classes[podref.QOS(p)], p)
		}
	}
	best, burstable, guaranteed := classes[corev1.PodQOSBestEffort], classes[corev1.PodQOSBurstable], classes[corev1.PodQOSGuaranteed]
	if len(all.without(slices.Concat(best, burstable, guaranteed)...)) > 0 {
		return nil, false
	}
	g := closest(guaranteed, all.without(slices.Concat(best, burstable)...))
	b := closest(burstable, all.without(slices.Concat(best, g)...))
	e := closest(best, all.without(slices.Concat(b, g)...))
	return slices.Concat(e, b, g), true
}

// closest takes pods until nothing is needed any more, each time the one that comes closest.
func closest(pods []*corev1.Pod, n need) (chosen []*corev1.Pod) {
	pods = slices.Clone(pods)
	for len(n) > 0 && len(pods) > 0 {
		slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
			switch x, y := n.distance(a), n.distance(b); {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return smaller(a, b)
		})
		chosen = append(chosen, pods[0])
		n = n.without(pods[0])
		pods = pods[1:]
	}
	return chosen
}

// smaller orders pods by what they ask for: memory, then CPU.
func smaller(a, b *corev1.Pod) int {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceCPU} {
		if x, y := has(a, name), has(b, name); x != y {
			return int(min(max(x-y, -1), 1))
		}
	}
	return 0
}

// mayTakePlaceOf: a critical pod before others, among critical ones the one of higher priority.
func mayTakePlaceOf(pod, other *corev1.Pod) bool {
	if Critical(pod) && !Critical(other) {
		return true
	}
	return pod.Spec.Priority != nil && other.Spec.Priority != nil && *pod.Spec.Priority > *other.Spec.Priority
}
