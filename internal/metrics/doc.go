// Package metrics holds what the daemon counts, under the names that dashboards and alerts for the
// kubelet, kube-proxy and CoreDNS already use. It measures nothing itself: each feature declares
// the function it wants to tell a fact to, and wiring gives it a method of one of the small types
// here, so that no feature knows of Prometheus. Part of every flow, at its end.
//
// Touches: memory, and /proc/self when scraped.
//
// Invariants:
//   - There is no global registry: two daemons in one process do not meet.
//   - No series carries a pod's or container's name unless the reader of it must have that
//     (probes), and those are forgotten with the pod. What is known elsewhere (usage of
//     containers) is read when scraped and not kept.
package metrics
