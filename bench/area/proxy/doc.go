// Package proxy measures nodelet's service proxy beside upstream's kube-proxy:
// both watch the same API with the same objects, one after the other on fresh
// nodes, and real connections tell when the kernel does what the API says.
//
// The API is internal/stubapi, which has no disk and no checks: what it takes is a
// fraction of a millisecond, so that the figures are the proxies' own.
//
// Flow: Area().Turns -> Measure: world.go (objects, back ends) -> contestants.go
// (start one) -> measure.go (figures) with traffic.go (connections).
//
// Touches: everything on the node of the turn.
package proxy
