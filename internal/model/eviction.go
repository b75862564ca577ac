package model

import (
	"fmt"
	"time"
)

// Eviction says that a pod has to go because the node runs short of something, or because the pod broke
// a limit that only the node enforces.
type Eviction struct {
	UID UID
	At  time.Time
	// Message is that of its status; Grace how long its containers have.
	Message string
	Grace   time.Duration
	// Pressure: it goes for the node's sake (condition DisruptionTarget).
	Pressure bool
}

// String is one line: pod, grace, message.
func (e *Eviction) String() string {
	return fmt.Sprintf("%s evicted with grace %s: %s", e.UID, e.Grace, e.Message)
}
