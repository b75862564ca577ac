package shutdownplan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// criticalPriority is the least of the pods that the system needs: scheduling.SystemCriticalPriority.
const criticalPriority = 2_000_000_000

// Period is how long the pods from a priority on, up to that of the next period, have to end.
type Period struct {
	Priority int32
	Grace    time.Duration
}

// Settings are those of KubeletConfiguration.
type Settings struct {
	// Total is shutdownGracePeriod, of which Critical are the last part, for critical pods.
	Total, Critical time.Duration
	// ByPriority is shutdownGracePeriodByPodPriority; it stands for the other two.
	ByPriority []Period
}

// Check says what is wrong with the settings, by upstream's rules.
func (s Settings) Check() error {
	switch {
	case len(s.ByPriority) > 0 && (s.Total != 0 || s.Critical != 0):
		return fmt.Errorf("shutdownGracePeriodByPodPriority stands for shutdownGracePeriod and shutdownGracePeriodCriticalPods: give one or the other")
	case s.Critical > s.Total:
		return fmt.Errorf("shutdownGracePeriodCriticalPods %s is a part of shutdownGracePeriod %s: it must not be longer", s.Critical, s.Total)
	}
	for name, d := range map[string]time.Duration{"shutdownGracePeriod": s.Total, "shutdownGracePeriodCriticalPods": s.Critical} {
		if d < 0 || d > 0 && d < time.Second {
			return fmt.Errorf("%s is %s: it must be 0 or at least 1s", name, d)
		}
	}
	for _, p := range s.ByPriority {
		if p.Grace < 0 {
			return fmt.Errorf("shutdownGracePeriodByPodPriority: priority %d has %s: it must not be negative", p.Priority, p.Grace)
		}
	}
	return nil
}

// Periods are the settings as periods, the lowest priority first; none: pods do not end before the machine does.
func (s Settings) Periods() []Period {
	all := slices.Clone(s.ByPriority)
	if len(all) == 0 && s.Total > 0 {
		all = []Period{{0, s.Total - s.Critical}, {criticalPriority, s.Critical}}
	}
	slices.SortStableFunc(all, func(a, b Period) int { return cmp.Compare(a.Priority, b.Priority) })
	return all
}

// Whole is how long all periods take together.
func Whole(periods []Period) (sum time.Duration) {
	for _, p := range periods {
		sum += p.Grace
	}
	return sum
}

// Pod is one of the node.
type Pod struct {
	Pod *corev1.Pod
	// Ended: nothing of it runs, no volume of it is mounted, and the API knows.
	Ended bool
}

// State is how far a shutdown is: the group whose turn it is, and since when. Zero at its beginning.
type State struct {
	Group int
	Since time.Time
}

// Facts is all that Make looks at.
type Facts struct {
	Now     time.Time
	Periods []Period
	Pods    []Pod
	State   State
}

// End is a pod that is to end now; asking for it again changes nothing.
type End struct {
	Pod   *corev1.Pod
	Grace time.Duration
}

// Plan is what Make gives.
type Plan struct {
	State State
	End   []End
	// Wake is when to look again even if nothing changes.
	Wake time.Time
	// Over: the machine may go down.
	Over bool
}

// String is one line a pod, and what comes next.
func (p Plan) String() string {
	var b strings.Builder
	for _, e := range p.End {
		fmt.Fprintf(&b, "end %s/%s within %s\n", e.Pod.Namespace, e.Pod.Name, e.Grace)
	}
	if p.Over {
		b.WriteString("over\n")
	} else {
		fmt.Fprintf(&b, "group %d since %s until %s\n", p.State.Group, p.State.Since.Format(time.TimeOnly), p.Wake.Format(time.TimeOnly))
	}
	return b.String()
}

// Make says which pods are to end now.
func Make(f Facts) Plan {
	p := Plan{State: f.State}
	if p.State.Since.IsZero() {
		p.State.Since = f.Now
	}
	groups := f.groups()
	for i := range min(p.State.Group, len(groups)) {
		p.end(groups[i], f.Periods[i].Grace) // also those that came after their group's turn
	}
	for ; p.State.Group < len(groups); p.State = (State{p.State.Group + 1, f.Now}) {
		period := f.Periods[p.State.Group]
		left := groups[p.State.Group]
		p.end(left, period.Grace)
		due := p.State.Since.Add(period.Grace)
		if len(left) > 0 && f.Now.Before(due) {
			p.Wake = due
			return p
		}
	}
	p.Over = true
	return p
}

func (p *Plan) end(pods []*corev1.Pod, grace time.Duration) {
	for _, pod := range pods {
		own := grace
		if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
			own = min(own, time.Duration(max(*s, 0))*time.Second)
		}
		p.End = append(p.End, End{pod, own})
	}
}

// groups are the pods that have not ended, by the period that holds for them, in the order of their names.
func (f *Facts) groups() [][]*corev1.Pod {
	all := make([][]*corev1.Pod, len(f.Periods))
	if len(all) == 0 {
		return nil
	}
	for _, p := range f.Pods {
		if !p.Ended {
			i := index(f.Periods, p.Pod)
			all[i] = append(all[i], p.Pod)
		}
	}
	for _, group := range all {
		slices.SortFunc(group, func(a, b *corev1.Pod) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
		})
	}
	return all
}

// index is the period with the highest priority that is not above the pod's; the lowest one for pods below all.
func index(periods []Period, pod *corev1.Pod) int {
	priority := int32(0)
	if pod.Spec.Priority != nil {
		priority = *pod.Spec.Priority
	}
	i := 0
	for k, p := range periods {
		if p.Priority <= priority {
			i = k
		}
	}
	return i
}
