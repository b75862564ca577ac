// Package reconcile has the only two loop shapes of the daemon: Loop brings one
// whole thing (a rule set, a zone) up to a snapshot; Keyed does the same for
// many independent things (pods), one worker per key. It knows nothing of what
// is brought up to date. Part of every flow, between store and feature.
//
// Touches: goroutines and timers only.
//
// Invariants:
//   - Sync runs only when Ready says that the tables it depends on are synced.
//   - prev advances only on success: failed work stays in the difference, so
//     there is no queue of events. Start and resync are the same path: prev is nil.
//   - At most one Sync runs at a time (Loop), or per key (Keyed); a snapshot
//     that came meanwhile leads to another run, however many came to one.
//   - One key that hangs never delays another.
package reconcile
