// Package agent measures nodelet's agent beside upstream's kubelet: both on the
// distribution's containerd with its bridge plugin, against the same API server,
// with the same pods; nodelet with its embedded runtime and its own network
// plugin is a further column, and the runtime's own calls are the floor.
//
// Pods are bound to the node when they are written, so no scheduler takes part,
// and a watch of the API says when something has become true.
//
// Flow: Area().Turns -> measure (measure.go) or floor (floor.go) -> bench/stack.
//
// Touches: everything on the node of the turn.
package agent
