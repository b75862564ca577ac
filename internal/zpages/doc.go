// Package zpages answers /statusz, /flagz and /configz as upstream's components do, so that tools
// and people who look there at a kubelet or a kube-proxy find the same: text by default, JSON or
// YAML of config.k8s.io when asked for by name (KEP-4827, KEP-4828).
//
// It decides nothing about who may ask; whoever mounts a handler does that. It knows no
// configuration: what to show is passed in.
//
// Touches: nothing but the response.
//
// Invariants:
//   - What a flag was annotated with [Classified] for is not shown.
//   - A representation that is not known is refused with 406, never answered with another one.
package zpages
