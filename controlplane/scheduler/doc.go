// Package scheduler runs upstream's kube-scheduler inside this process.
//
// Part of the flow "serve": apiserver ready -> scheduler.Run beside
// controllers.Run and addons.Apply.
//
// Touches: the API, through its kubeconfig.
//
// Invariants: one instance, so no leader election; no port of its own, its
// metrics are on the API server's /metrics since both are one process.
package scheduler
