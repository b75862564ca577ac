// Package addons holds the API objects that every nodelet cluster has besides
// upstream's own: the cluster DNS Service and the rights of nodes.
//
// It runs nothing in pods: DNS and proxy are part of the node daemon.
//
// Part of the flow "serve": apiserver ready -> addons.Apply -> ready.
//
// Touches: the API, by server-side apply as field manager "nodelet".
//
// Invariants: applying twice changes nothing; fields that others set on these
// objects stay theirs.
package addons
