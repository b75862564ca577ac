// Package lab makes several nodes on one machine: each with its own network,
// mount, process and host-name namespaces, its own copies of the directories a
// node uses, and its own cgroup, joined by one wire.
//
// A node is held by a process of its own, which is process 1 in there. When it
// ends, the kernel ends everything in the node with it: nothing survives by
// accident. What is left then, directories, cgroups and the wire, is found again
// by the lab's state file, and Down removes it.
//
// It does not know what runs in a node, except cluster.go, which starts nodelet.
//
// Flow: tests and `go run ./test/netlab` -> Up -> hold.go (in the node) -> Start.
//
// Touches: namespaces, /run/nodelet-lab (state), /var/lib/nodelet-lab (data),
// the cgroups nodelet-lab-<id>-<n>; empty directories of the host where nodes
// mount their own, removed again with the last lab when a lab made them.
package lab
