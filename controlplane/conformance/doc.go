// Package conformance holds upstream's conformance suite and its helpers in this
// module's go.mod, so that `make conformance` builds them from the very sources
// that the control plane is made of.
//
// test/conformance of the root module runs them. The only code is command csimock,
// a package of the suite as a program.
package conformance
