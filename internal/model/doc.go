// Package model holds the slim, immutable values that the parts of the daemon
// exchange: Services, EndpointSlices, Nodes, what the runtime says of a pod,
// probe verdicts. It does not convert from API objects (internal/kube does) and
// keeps nothing (internal/store does). Part of every flow.
//
// Pure.
//
// Invariants: a value that has been committed to the store is never changed
// again, neither are the slices and maps it holds; every type prints as one
// line by String(), which is the text used in goldens, logs and the CLI.
package model
