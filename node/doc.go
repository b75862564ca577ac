// Package node is the wiring of the node daemon: it builds the store, the API
// client, the container runtime and the features, hands each the writers of
// its tables, and runs them together. It is the only place that knows all
// parts; it decides nothing that a part can decide.
//
// Touches: nothing by itself; see the parts.
package node
