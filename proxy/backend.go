package proxy

import (
	"context"
	"fmt"

	"nodelet/proxy/lb"
	"nodelet/proxy/nftables"
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
	Cleanup(ctx context.Context) error
	Residue(ctx context.Context) ([]string, error)
	// Close lets go of the kernel; what was written stays.
	Close() error
}

// The modes. Auto takes the best back end that the kernel proves to have.
const (
	Auto     = ""
	Nftables = "nftables"
)

// open gives the back end for a mode, proven to work here.
func open(ctx context.Context, mode string, netns int) (Backend, error) {
	if mode != Auto && mode != Nftables {
		return nil, fmt.Errorf("open proxy back end: unknown mode %q (known: %s)", mode, Nftables)
	}
	ipv6, err := detect(ctx, netns)
	if err != nil {
		return nil, err
	}
	return nftables.New(nftables.Config{NetNS: netns, IPv6: ipv6})
}

// Cleanup removes everything that any back end has left in the kernel.
func Cleanup(ctx context.Context, netns int) error {
	b, err := nftables.New(nftables.Config{NetNS: netns, IPv6: true})
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	return b.Cleanup(ctx)
}

// Residue names everything that any back end has left in the kernel.
func Residue(ctx context.Context, netns int) ([]string, error) {
	b, err := nftables.New(nftables.Config{NetNS: netns, IPv6: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.Close() }()
	return b.Residue(ctx)
}
