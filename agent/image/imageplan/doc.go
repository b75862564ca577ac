// Package imageplan decides about images: whether a container may start with
// what is on the node, what to show while it may not, when to try a pull
// again, and which credentials go with it. It does not pull (agent/image
// does). Part of the flow Images -> podplan -> Decide -> EnsureImage ->
// agent/image -> store.Images.
//
// Pure.
//
// Invariants: a verdict depends on the table's row and the clock only; nothing
// here prints a password.
package imageplan
