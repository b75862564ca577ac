// Package nodeconfig reads the configuration files of a kubelet and of a
// kube-proxy as they are, and turns them into nodelet's own flags and settings.
// It does not read files from a disk and does not know which flags were given
// (cmd/nodelet does). Part of the flow files -> Merge -> Map -> flags, node.Config.
//
// Touches: nothing.
//
// Invariants: every field of both kinds is in exactly one table, with what
// becomes of it; a value that changes nothing here is told with the reason, one
// that says what nodelet does anyway is not; an unknown field is an error.
package nodeconfig
