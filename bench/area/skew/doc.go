// Package skew shows that a node works with the control planes of the Kubernetes
// versions around its own, each unmodified and in processes of its own: etcd, API
// server, controllers, scheduler. The node is nodelet with all its parts. What is
// counted are specs of upstream's suite; nothing is timed.
//
// Flow: Area().Turns -> measure -> bench/stack, then test/conformance.
//
// Touches: the turn's node; see bench/stack.
package skew
