// Package proxy balances Services in the kernel of this node, as kube-proxy
// does. It brings together what Services mean (package lb) and a back end that
// tells the kernel; it decides neither. Part of the flow EndpointSlice ->
// kernel: reconcile.Loop -> Proxy.sync -> lb.Advance -> Backend.Apply ->
// lb.Stale -> conntrack -> store.SetApplied.
//
// Touches: the kernel through its back end and internal/conntrack; a listener
// for health checks.
//
// Invariants:
//   - Nothing is written before Services, EndpointSlices and Nodes are synced;
//     losing the API changes nothing.
//   - Rules stay when the daemon ends: only Cleanup removes them.
//   - A revision is reported as applied when the kernel holds it and stale UDP
//     flows are gone, not before.
package proxy
