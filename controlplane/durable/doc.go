// Package durable writes small files so that a reader sees the old content or
// the new one, never a part of it, whenever the writer is killed.
//
// It knows nothing of what it writes.
//
// Part of the flow "serve": pki, identity and serve write their files with it.
//
// Touches: the file system.
//
// Invariants: a file appears under its name complete and with its final mode;
// what a killed writer leaves behind has the suffix ".tmp" and is overwritten
// by the next one.
package durable
