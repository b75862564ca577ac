// Package explain answers "what happens to a packet from here to there, and
// why": it joins what the API says (MEANING), what follows from it (PREDICT,
// package eval), what the kernel really holds (ACTUAL) and a judgement that
// names the first cause and the way to mend it (VERDICT). It reads no kernel
// (package gather does) and talks to nobody. Part of the flow nodelet explain
// -> control socket -> Parse -> Resolve -> gather.Facts -> Judge -> Answer.
//
// Pure.
//
// Invariants:
//   - The answer follows from the Facts alone.
//   - What could not be read is said, never taken for healthy: a verdict
//     healthy means that everything that could stop the packet on this node
//     was looked at.
package explain
