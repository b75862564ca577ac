// Package admission decides which pods this node takes and with which
// resources: what the kubelet's admission handlers and its allocation manager
// do. It stops and starts nothing (agent/podplan plans that from the rows) and
// reserves nothing beyond its rows. Part of the flow Pod -> containers -> status,
// between the Pods table and the first plan: agent/admit.go -> Decide -> table
// Allocations -> agent/podplan.
//
// Pure.
//
// Invariants:
//   - One decision sees all others: two pods never get the same CPU twice.
//   - A pod that was taken is never rejected later; only a critical pod may take its place.
//   - No memory but the store: what was granted before a restart is read from
//     the status the API has (see docs/adr/0008-granted-resources.md).
package admission
