// Package timeline says when each step of a pod's life was reached: from the
// write in the API over admission, volumes, sandbox, network, image, start and
// probes to the status that was written back, and to its end. It observes
// nothing by itself: the agent's status loop hands it snapshots. Part of the
// flow Pod -> containers -> status.
//
// Pure: time comes in as a value; the record is memory behind a lock.
//
// Invariants: a step is noted once, at the time the runtime gives or else when
// it was first seen; the memory per pod and the number of pods that are gone
// are bounded; nothing is decided by it, so that all of it may be lost.
package timeline
