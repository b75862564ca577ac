package proxy

import (
	"context"

	"nodelet/proxy/lb"
)

// Backend tells the kernel what a State means. It is used by one goroutine at
// a time. proxytest.Conformance says what it has to do to packets.
type Backend interface {
	// Apply makes the kernel say what want says, at the price of what changed
	// since the last Apply. After an error, and after Forget, nothing is taken
	// for known: the kernel is looked at and only what differs is written.
	Apply(ctx context.Context, want *lb.State) (lb.Result, error)
	Forget()
	// Untouched tells whether nobody else has changed anything since the last
	// Apply; false means only that it is not certain.
	Untouched(ctx context.Context) bool
	// Cleanup removes everything of the back end's; Residue names what is left.
	// Both work on a fresh back end that has applied nothing.
	Cleanup(ctx context.Context) error
	Residue(ctx context.Context) ([]string, error)
	// Close lets go of the kernel; what was written stays.
	Close() error
}

// runner is a Backend that has to follow the kernel between two calls of Apply.
type runner interface {
	// Run returns when ctx ends, or when it cannot go on.
	Run(ctx context.Context) error
}
