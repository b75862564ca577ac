// Package conformance holds upstream's conformance suite and its helpers in this
// module's go.mod, so that `make conformance` builds them from the very sources
// that the control plane is made of.
//
// It contains no code of its own: test/conformance of the root module runs them.
package conformance
