// Package traffic is who talks in the tests of the service proxy: servers that
// answer with their name and the source address they see, and questions to
// them whose answer tells a refusal from silence. It decides nothing and makes
// no network: callers open it in the namespaces they want. Both the
// conformance test (package proxytest) and nodelet prove (package prove) talk with it.
//
// Touches: sockets of the calling thread's network namespace.
//
// Invariants:
//   - Serve functions return only when all that they started has ended.
package traffic
