// Package staticplan decides which static pods begin and end, given the
// manifests that were found, and what is to be done about a mirror pod. It
// reads and writes nothing (agent/static does). Part of the flow
// manifest file -> Pods -> containers.
//
// Pure.
//
// Invariants: of two live pods no two have the same name, and no two pods at
// all the same UID; a manifest that cannot be read ends no pod.
package staticplan
