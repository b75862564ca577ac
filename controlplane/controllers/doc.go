// Package controllers runs upstream's kube-controller-manager inside this
// process.
//
// It does not start before the API answers: serve sees to it.
//
// Part of the flow "serve": apiserver ready -> controllers.Run beside
// scheduler.Run and addons.Apply.
//
// Touches: the API, through its kubeconfig.
//
// Invariants: one instance, so no leader election; no port of its own, its
// metrics are on the API server's /metrics since both are one process.
package controllers
