// Package parts runs the named parts of the daemon side by side: all of them
// end when one fails or the daemon is told to stop, and a part that does not
// end is named instead of waited for without end. It does not know what the
// parts do.
//
// Flow: part of every start and stop of the daemon.
//
// Touches: goroutines and timers only.
//
// Invariants:
//   - The first error ends all, and says which part it came from.
//   - Wait returns at most its limit after the end was asked for.
package parts
