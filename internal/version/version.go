// Package version says which build this is.
//
// Pure.
package version

// Version is set by the linker (make build); "dev" in a build by hand.
var Version = "dev"

// Kubernetes is the upstream version whose behaviour this build follows.
const Kubernetes = "v1.36.3"
