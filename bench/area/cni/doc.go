// Package cni measures nodelet-cni beside the distribution's bridge, host-local and
// portmap plugins, executed as a container runtime executes them: one network
// namespace after the other is added and deleted, in turn with the other's.
//
// Flow: Area().Turns -> measure -> chain.add, chain.del.
//
// Touches: links, addresses, rules and files of the turn's node.
package cni
