// Package kube is the one place that talks to the API server: it reflects
// objects into the store and carries the writes of the other parts. It decides
// nothing about pods, services or nodes. First step of every flow, and the
// last of the pod flow.
//
// Touches: the API server over HTTPS; store tables Pods, Services, Slices,
// Nodes, Configs, Claims, Classes, Drivers and TrustBundles.
//
// Invariants:
//   - client-go is imported here and nowhere else.
//   - Objects are converted to their slim form before they reach the store;
//     nothing is kept twice.
//   - A lost API server changes no table: reflectors go on trying, and the
//     tables keep what was last known.
package kube
