package model

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Eviction says that a pod has to go because the node runs short of something, because the pod broke
// a limit that only the node enforces, or because the machine is about to go down.
type Eviction struct {
	UID UID
	At  time.Time
	// Reason is that of its status; empty means Evicted.
	Reason string
	// Message is that of its status; Grace how long its containers have.
	Message string
	Grace   time.Duration
	// Pressure: it goes for the node's sake (condition DisruptionTarget).
	Pressure bool
}

// Why is the reason of the pod's status.
func (e *Eviction) Why() string { return cmp.Or(e.Reason, "Evicted") }

// String is one line: pod, grace, message.
func (e *Eviction) String() string {
	return fmt.Sprintf("%s %s with grace %s: %s", e.UID, strings.ToLower(e.Why()), e.Grace, e.Message)
}
