// Package evictplan decides what to do when the node runs short of memory, disk, inodes or process
// ids: which conditions the node shows, what is reclaimed first, and which pod has to go. It measures
// nothing and stops nothing (agent/evict does). Part of the flow agent/stats -> agent/evict -> Make ->
// table Evictions -> agent/podplan.
//
// Pure.
//
// Invariants:
//   - What Make must remember from one look to the next is a value, State: the same facts with the
//     same state give the same plan.
//   - Pressure costs at most one pod at a time, and none while reclaiming was enough or while a pod
//     that was evicted is still going. A pod that broke its own limit goes at once.
//   - Critical and static pods are never evicted.
package evictplan
