// Package footprint keeps the memory of a daemon near what it uses.
//
// It does not bound memory: that is the operator's, by GOMEMLIMIT or a cgroup.
//
// Flow: Settle, once the daemon has its first picture of the world -> Trim,
// then and when a burst of work is over.
//
// Touches: the garbage collector's settings, the page tables of the process.
//
// Invariants: what the operator set by GOGC or GOMEMLIMIT stays; nothing that
// is released cannot come back by being touched.
package footprint
