// Package store holds the one picture of the world: an immutable Snapshot of
// everything known, desired and observed, with one revision. It decides
// nothing and touches nothing outside memory. Every flow passes through it:
// reflectors and observers commit, loops read.
//
// Touches: memory only.
//
// Invariants:
//   - A Snapshot never changes; readers never lock. What it holds must not be
//     changed by anybody either.
//   - Each table has one writer, handed out once by New.
//   - The revision grows by one with each commit that changed something, and
//     only then.
//   - Table.Since(older) yields exactly the keys whose value differs between
//     the two tables (a superset when a value was set and set back), deleted
//     keys first, at a cost that depends on their number and not on the size
//     of the table.
//   - Applied says which revision the kernel objects of a feature stand for.
//     It is a remark about revisions and has none of its own: setting it wakes
//     readers but does not make a new revision, so loops never chase themselves.
package store
