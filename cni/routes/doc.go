// Package routes decides the routes between nodes: for each other node that is
// on a directly connected network, its pod CIDR by way of its address.
//
// It has no answer for nodes behind a router yet; it says so as a Problem
// (VXLAN and WireGuard are for later). It changes nothing: package cni applies.
//
// Flow: store (Nodes) -> cni -> routes.Make -> nl.
//
// Pure.
//
// Invariants: no route overlaps a network the host itself is on, or the pod
// CIDR of another node that was first; the node's own pod CIDR is unreachable
// as a whole, so that packets to pods that are gone are refused at once and
// never leave the node.
package routes
