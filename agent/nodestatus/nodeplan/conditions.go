package nodeplan

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditions writes the four conditions the kubelet owns, Ready last where the list is new: old
// controllers look at it after the others.
func (p *Plan) conditions(f Facts, old *corev1.Node) {
	p.pressure(f, corev1.NodeMemoryPressure, f.Pressure.Memory, words{
		yes: "KubeletHasInsufficientMemory", yesMessage: "kubelet has insufficient memory available",
		no: "KubeletHasSufficientMemory", noMessage: "kubelet has sufficient memory available",
		yesEvent: "NodeHasInsufficientMemory", noEvent: "NodeHasSufficientMemory",
	})
	p.pressure(f, corev1.NodeDiskPressure, f.Pressure.Disk, words{
		yes: "KubeletHasDiskPressure", yesMessage: "kubelet has disk pressure",
		no: "KubeletHasNoDiskPressure", noMessage: "kubelet has no disk pressure",
		yesEvent: "NodeHasDiskPressure", noEvent: "NodeHasNoDiskPressure",
	})
	p.pressure(f, corev1.NodePIDPressure, f.Pressure.PID, words{
		yes: "KubeletHasInsufficientPID", yesMessage: "kubelet has insufficient PID available",
		no: "KubeletHasSufficientPID", noMessage: "kubelet has sufficient PID available",
		yesEvent: "NodeHasInsufficientPID", noEvent: "NodeHasSufficientPID",
	})
	p.ready(f, old)
}

// words are upstream's for one kind of pressure; programs match on them.
type words struct {
	yes, yesMessage, no, noMessage, yesEvent, noEvent string
}

func (p *Plan) pressure(f Facts, kind corev1.NodeConditionType, is bool, w words) {
	c := corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: w.no, Message: w.noMessage}
	event := w.noEvent
	if is {
		c.Status, c.Reason, c.Message, event = corev1.ConditionTrue, w.yes, w.yesMessage, w.yesEvent
	}
	if p.set(f, c) {
		p.event(corev1.EventTypeNormal, event, fmt.Sprintf("Node %s status is now: %s", f.Identity.Name, event))
	}
}

func (p *Plan) ready(f Facts, old *corev1.Node) {
	c := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
	event := "NodeReady"
	if why := obstacles(f); len(why) > 0 && (f.ShuttingDown || !held(f, old)) {
		c.Status, c.Reason, c.Message, event = corev1.ConditionFalse, "KubeletNotReady", why[0], "NodeNotReady"
		if len(why) > 1 {
			c.Message = "[" + strings.Join(why, ", ") + "]"
		}
	}
	was := find(p.Node.Status.Conditions, corev1.NodeReady) != nil
	if p.set(f, c) && was {
		p.event(corev1.EventTypeNormal, event, fmt.Sprintf("Node %s status is now: %s", f.Identity.Name, event))
	}
}

// obstacles are the reasons why the node is not ready, none when it is.
func obstacles(f Facts) []string {
	var why []string
	r := f.Runtime
	switch {
	case r.Answered.IsZero() && r.Runtime == nil:
		why = append(why, "container runtime status check may not have completed yet")
	case !r.Answered.IsZero() && f.Now.Sub(r.Answered) >= Grace:
		why = append(why, "container runtime is down")
	}
	if r.Runtime != nil && !r.Runtime.Status {
		why = append(why, "container runtime not ready: "+r.Runtime.String())
	}
	switch {
	case r.Network != nil && !r.Network.Status:
		why = append(why, "container runtime network not ready: "+r.Network.String())
	case r.Network == nil && r.Runtime != nil:
		why = append(why, "container runtime network not ready: the runtime does not tell")
	}
	why = append(why, f.Missing...)
	if f.ShuttingDown {
		why = append(why, "node is shutting down")
	}
	return why
}

// held tells whether a Ready node stays so because the daemon has only just started on a machine
// that went on running.
func held(f Facts, old *corev1.Node) bool {
	if old == nil || f.Now.Sub(f.Started) >= Grace || old.Status.NodeInfo.BootID != f.Machine.BootID {
		return false
	}
	c := find(old.Status.Conditions, corev1.NodeReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// set puts a condition in its place and tells whether its status is new.
func (p *Plan) set(f Facts, c corev1.NodeCondition) bool {
	now := metav1.NewTime(f.Now)
	c.LastHeartbeatTime, c.LastTransitionTime = now, now
	old := find(p.Node.Status.Conditions, c.Type)
	if old == nil {
		p.Node.Status.Conditions = append(p.Node.Status.Conditions, c)
		return true
	}
	changed := old.Status != c.Status
	if !changed {
		c.LastTransitionTime = old.LastTransitionTime
	}
	*old = c
	return changed
}

func find(all []corev1.NodeCondition, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range all {
		if all[i].Type == kind {
			return &all[i]
		}
	}
	return nil
}
