// Package logplan decides about the rotation of one log: which of its files to remove, which to
// compress, and what the file that is written is to be called from now on. It touches no file
// (agent/logs does). Flow: agent/logs -> Make -> agent/logs.
//
// Pure.
//
// Invariants: a name that is given to a file sorts after all that were given before; no step removes
// what is not a file of that log; of two forms of one file the compressed one is complete.
package logplan
