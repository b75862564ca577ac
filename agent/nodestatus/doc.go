// Package nodestatus tells the API server about this machine: it registers the Node object, keeps
// its status true, and renews the node's Lease. It decides nothing (nodeplan does) and watches no
// pods: a pod that hangs has no influence here.
//
// Flow: CRI Status, store.Applied, the machine -> NodeStatus.sync -> nodeplan.Make ->
// nodeplan.Patch -> internal/kube PatchNodeStatus; and by itself: NodeStatus.renew -> UpdateLease.
//
// Touches: the API server, the container runtime (Status, Version, ListImages), /proc, /sys and
// /etc for reading, statfs.
//
// Invariants:
//   - The Lease, the status and the questions to the runtime are three goroutines: none waits for
//     another, and each call has a deadline of its own.
//   - The first Ready goes out as soon as the last obstacle is gone, not at the next tick.
//   - Nothing is written when nothing changed, but for one full report every ReportInterval.
//   - A Node object that was deleted is not registered again until the daemon restarts, as upstream:
//     whoever deleted it wants it gone.
package nodestatus
