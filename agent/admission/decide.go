package admission

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/store"
)

// Node is what the node can give, and what pods may ask of it.
type Node struct {
	Name   string
	Labels map[string]string
	Taints []corev1.Taint
	// Allocatable as the scheduler knows it; a resource that is not in it is not checked.
	Allocatable corev1.ResourceList
	// Sysctls are patterns of sysctls allowed beside the safe ones (allowedUnsafeSysctls).
	Sysctls []string
	// Unknown: labels and taints have not come from the API yet; new pods wait for them.
	Unknown bool
	// StaticCPUs: containers of Guaranteed pods may have CPUs to themselves, and keep those.
	StaticCPUs bool
	// LimitedSwap: containers may have a part of the machine's swap.
	LimitedSwap bool
	// ShuttingDown: the machine is about to go down, nothing new is taken.
	ShuttingDown bool
	// Pressure is what the node is short of, sorted.
	Pressure []corev1.NodeConditionType
	// AppArmor: the kernel enforces profiles.
	AppArmor bool
	// Users are the ids for pods with user namespaces.
	Users UserIDs
	// StrictGroups: the runtime knows supplementalGroupsPolicy Strict.
	StrictGroups bool
}

// Decision is what Decide gives.
type Decision struct {
	// Rows are those that are new or changed.
	Rows []*model.Allocation
	// Gone are the rows of pods that the API no longer knows.
	Gone []model.UID
	// Notices become events.
	Notices []Notice
}

// Notice is something that happened to a pod by a decision.
type Notice struct {
	UID     model.UID
	Warning bool
	Reason  string
	Message string
	// Short is the resource for which the pod is preempted.
	Short corev1.ResourceName
}

// String is one line a row, a removed row or a notice.
func (d Decision) String() string {
	var b strings.Builder
	for _, r := range d.Rows {
		b.WriteString(r.String() + "\n")
	}
	for _, uid := range d.Gone {
		b.WriteString(uid.String() + " gone\n")
	}
	for _, n := range d.Notices {
		kind := "normal"
		if n.Warning {
			kind = "warning"
		}
		b.WriteString(strings.Join([]string{n.UID.String(), kind, n.Reason, n.Message}, " ") + "\n")
	}
	return b.String()
}

// Decide gives what changes in the table Allocations.
func Decide(snap *store.Snapshot, node Node) Decision {
	d := &decider{node: node, rows: map[model.UID]*model.Allocation{}}
	var fresh, resized []*corev1.Pod
	for uid, pod := range snap.Pods.All() {
		row, known := snap.Allocations.Get(uid)
		switch {
		case known:
			if d.take(pod, row) && wantsMore(pod, row) {
				resized = append(resized, pod)
			}
		case terminal(pod):
		case taken(snap, pod):
			row := adopt(pod)
			d.set(row)
			if d.take(pod, row) && wantsMore(pod, row) {
				resized = append(resized, pod)
			}
		case pod.DeletionTimestamp == nil:
			fresh = append(fresh, pod)
		}
	}
	if snap.Pods.Synced() {
		for uid := range snap.Allocations.All() {
			if _, ok := snap.Pods.Get(uid); !ok {
				d.out.Gone = append(d.out.Gone, uid)
			}
		}
	}
	slices.SortFunc(fresh, older)
	for _, pod := range fresh {
		if !node.Unknown || podref.IsStatic(pod) {
			d.admit(pod)
		}
	}
	d.resize(resized)
	d.mapUsers(snap)
	return d.out
}

// decider is the state of one run of Decide.
type decider struct {
	node Node
	// pods are those that the node has taken, with the resources granted to them.
	pods []*corev1.Pod
	rows map[model.UID]*model.Allocation
	out  Decision
}

// take counts a pod that has a row among those of the node; false when it has not got a place here.
func (d *decider) take(pod *corev1.Pod, row *model.Allocation) bool {
	d.rows[model.UID(pod.UID)] = row
	if row.Rejected || terminal(pod) {
		return false
	}
	d.pods = append(d.pods, Granted(pod, row))
	return true
}

func (d *decider) set(row *model.Allocation) {
	d.rows[row.UID] = row
	d.out.Rows = append(d.out.Rows, row)
}

func (d *decider) notice(uid model.UID, warning bool, reason, message string) {
	d.out.Notices = append(d.out.Notices, Notice{UID: uid, Warning: warning, Reason: reason, Message: message})
}

// admit decides about a pod that is new here.
func (d *decider) admit(pod *corev1.Pod) {
	uid := model.UID(pod.UID)
	refusal := d.unfit(pod)
	var after []model.UID
	if refusal == nil {
		shortages, other := d.room(pod)
		switch {
		case len(other) > 0 && (len(shortages) == 0 || Critical(pod)):
			refusal = &other[0]
		case len(shortages) > 0 && !Critical(pod):
			refusal = shortages[0].refusal()
		case len(shortages) > 0:
			after, refusal = d.preempt(pod, shortages)
		}
	}
	if refusal != nil {
		d.set(&model.Allocation{UID: uid, Rejected: true, Reason: refusal.reason, Message: "Pod was rejected: " + refusal.message})
		d.notice(uid, true, refusal.reason, refusal.message)
		return
	}
	row := grant(pod)
	row.After = after
	d.set(row)
	d.pods = append(d.pods, Granted(pod, row))
}

// older orders pods by creation; the UID decides between twins.
func older(a, b *corev1.Pod) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
}

func terminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// taken: this node has taken the pod at some time and said so, or has begun to run it.
func taken(snap *store.Snapshot, pod *corev1.Pod) bool {
	if pod.Status.StartTime != nil {
		return true
	}
	rt, ok := snap.Runtime.Get(model.UID(pod.UID))
	return ok && len(rt.Sandboxes) > 0
}

// Critical pods may take the place of others: static ones and those of system priority.
func Critical(pod *corev1.Pod) bool {
	const systemPriority = 2_000_000_000 // scheduling.SystemCriticalPriority
	return podref.IsStatic(pod) || (pod.Spec.Priority != nil && *pod.Spec.Priority >= systemPriority)
}
