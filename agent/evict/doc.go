// Package evict keeps the node alive when it runs short of memory, disk, inodes or process ids: it
// looks at what is left, has unused images removed, and says which pod has to go. It decides nothing
// itself (evictplan does), stops no container (agent/podplan plans that from table Evictions) and
// measures nothing (agent/stats does).
//
// Flow: agent/stats -> Evictor.sync -> evictplan.Make -> table Evictions, the node's conditions ->
// agent/podplan, agent/nodestatus.
//
// Touches: /proc/pressure/memory (a trigger), /dev/kmsg for reading; table Evictions.
//
// Invariants:
//   - Memory is looked at every second, and at once when tasks wait for it; all else every ten.
//   - A row of Evictions stays until the API has the pod's end, so that a pod that was evicted never
//     runs again; it is the only trace, and losing it with the daemon costs a new decision.
//   - What the kernel does not tell (no PSI, no kernel log) costs speed or events, never the loop.
package evict
