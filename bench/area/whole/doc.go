// Package whole measures whole clusters of one node: `nodelet up` beside upstream's
// etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet,
// kube-proxy and CoreDNS with the distribution's containerd, each a process of its
// own. Three areas: boot (from nothing to the first pod), idle (what all of it
// uses while nothing happens) and api (the control planes alone).
//
// Upstream's programs get their keys beforehand and run as plain processes, not as
// pods: the fastest they can be started.
//
// Flow: Boot, Idle, API -> measure -> bench/stack.
//
// Touches: everything on the node of the turn.
package whole
