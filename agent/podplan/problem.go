package podplan

import (
	corev1 "k8s.io/api/core/v1"
)

// Problem is something that keeps a pod or a container from running and that
// somebody may mend. It is shown as an event, and as the reason of a waiting container.
type Problem struct {
	// Container is empty when it concerns the pod.
	Container string
	Reason    string
	Message   string
}

// String is one line.
func (p Problem) String() string {
	if p.Container == "" {
		return p.Reason + ": " + p.Message
	}
	return p.Container + " " + p.Reason + ": " + p.Message
}

// The reasons of waiting containers, as kubectl and many scripts know them.
const (
	ReasonContainerCreating = "ContainerCreating"
	ReasonPodInitializing   = "PodInitializing"
	ReasonCrashLoop         = "CrashLoopBackOff"
	ReasonConfigError       = "CreateContainerConfigError"
	ReasonCreateError       = "CreateContainerError"
	ReasonRunError          = "RunContainerError"
	ReasonUnknown           = "ContainerStatusUnknown"
	ReasonPostStartError    = "PostStartHookError"
)

// waiting is why a container does not run yet.
type waiting struct {
	reason  string
	message string
}

func (w waiting) state() corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: w.reason, Message: w.message}}
}

// configError is an error in what the user wrote, as opposed to a fact that has not come yet.
type configError struct{ message string }

func (e *configError) Error() string { return e.message }

// notYet says that a fact has not come yet: wait, and say nothing.
type notYet struct{ what string }

func (e *notYet) Error() string { return "waiting for " + e.what }
