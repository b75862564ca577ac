// Package cpuplan decides which CPUs containers have to themselves: the static
// policy of upstream's CPU manager (KEP-3570). It changes no cgroup
// (agent/exclusive and the runtime do). Part of the flow pod -> agent/exclusive
// -> Take -> table Grants -> agent/podplan.
//
// Pure.
//
// Invariants: a CPU belongs to one container at most; reserved CPUs to none;
// the shared pool is never empty; of the free CPUs whole sockets are taken
// before whole cores before single threads, and what is broken already before
// what is whole.
package cpuplan
