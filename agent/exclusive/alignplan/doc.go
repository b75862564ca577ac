// Package alignplan decides near which NUMA nodes a container gets what it has to itself, so that its CPUs
// and devices are near to one another: the policies of upstream's topology manager (KEP-693). It does not
// choose CPUs or devices (cpuplan and deviceplan do). Part of the flow pod -> agent/exclusive -> Merge ->
// cpuplan, deviceplan.
//
// Pure.
//
// Invariants: what Merge admits under a strict policy is preferred by everybody who was asked; the order
// in which they are asked does not matter.
package alignplan
