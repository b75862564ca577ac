// Package prove compares back ends of the service proxy with the executable
// meaning (package eval): it makes random worlds and packets, asks what must
// happen, and looks what does: in the rules as rendered, in the rules as a
// kernel holds them, and with real packets. A disagreement is made as small as
// it can be and printed as a case that a person reads. It is behind nodelet
// prove backends and part of the tests. An upstream kube-proxy can be compared
// as well (upstream.go); known.go has what it is known to do otherwise.
//
// Touches: with Held and Packets network namespaces of its own, with a
// kube-proxy its process and a temporary directory; nothing else.
//
// Invariants:
//   - One seed gives the same worlds and packets on every machine.
//   - Whatever is made in the kernel is gone when a Subject is closed.
package prove
