// Package shutdownplan decides in which order the pods of a node end when the
// machine is about to go down, and how long each has. It ends nothing
// (agent/shutdown does). Part of the flow logind -> agent/shutdown -> Make ->
// table Evictions -> agent/podplan.
//
// Pure.
//
// Invariants (KEP-2000, KEP-2712): pods end by priority from the lowest group
// to the highest; a group begins when all of the one before have ended, or when
// that one's period is over; a group without pods takes no time; no pod has
// longer than its group's period, nor than its own grace period.
package shutdownplan
