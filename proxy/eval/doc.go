// Package eval is the executable meaning: what happens to one packet under a
// lb.State. It knows nothing of kernels; the back ends are tested against it,
// and explain predicts with it. Part of the flow packet -> verdict that no
// back end may contradict: rules.go holds the rules in the order in which they
// are asked, each with the sentence that Trace gives for it.
//
// Pure.
package eval
