// Package gcplan decides which images to remove from this node: those nobody has used for too long,
// and, while their file system is too full, the least recently used ones. It removes nothing
// (agent/image does). Part of the flow Images.RunGC -> gcplan.Make -> runtime RemoveImage.
//
// Pure.
//
// Invariants: an image in use, pinned, or younger than the least age is never removed.
package gcplan
