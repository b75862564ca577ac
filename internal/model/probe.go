package model

import (
	"fmt"
	"time"
)

// ProbeType is one of the three probes a container can have.
type ProbeType uint8

// The probe types.
const (
	Startup ProbeType = iota
	Liveness
	Readiness
)

// String is the type in lower case.
func (t ProbeType) String() string {
	return [...]string{"startup", "liveness", "readiness"}[t]
}

// ProbeKey names one probe of one container of a pod.
type ProbeKey struct {
	PodUID    UID
	Container string
	Type      ProbeType
}

// String is "uid/container/type".
func (k ProbeKey) String() string {
	return fmt.Sprintf("%s/%s/%s", k.PodUID, k.Container, k.Type)
}

// Verdict is the outcome of a probe after its thresholds.
type Verdict uint8

// The verdicts. Pending means that no threshold has been reached yet for this container.
const (
	Pending Verdict = iota
	Success
	Failure
)

// String is the verdict in lower case.
func (v Verdict) String() string { return [...]string{"pending", "success", "failure"}[v] }

// Probe is the standing verdict on one container instance. A verdict whose
// ContainerID is not the running container's says nothing about it.
type Probe struct {
	ProbeKey
	ContainerID string
	Verdict     Verdict
	// Message is the last failure's text, for events and status.
	Message string
	// Since is when the verdict last changed.
	Since time.Time
}

// String is one line: key, container, verdict.
func (p *Probe) String() string {
	return fmt.Sprintf("%s %.12s %s", p.ProbeKey, p.ContainerID, p.Verdict)
}
