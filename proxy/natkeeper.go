package proxy

import (
	"context"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// natKeeper is a back end of netfilter after a switch to one that is none: it
// has no frontends any more, but its chains stay. The kernel translates the
// packets of known connections only while somebody has a chain for NAT.
type natKeeper struct {
	Backend
	proxy *Proxy
}

// Apply keeps the chains, whatever want says.
func (k natKeeper) Apply(ctx context.Context, want *lb.State) (lb.Result, error) {
	return k.Backend.Apply(ctx, lb.Empty(want.Config()))
}

// Drain counts the connections to frontends that netfilter translates.
func (k natKeeper) Drain(ctx context.Context, want *lb.State) (left int, err error) {
	if _, err := k.Apply(ctx, want); err != nil {
		return 0, err
	}
	for _, ipv6 := range []bool{false, true} {
		flows, err := k.proxy.flows.List(ctx, ipv6)
		if err != nil {
			return 0, err
		}
		for _, f := range flows {
			if f.AnswersFrom == f.Dst {
				continue
			}
			at := lb.Frontend{Addr: f.Dst.Addr(), Proto: model.Protocol(f.Proto), Port: f.Dst.Port()}
			_, ours := want.Lookup(at)
			if at.Addr = unspecified(ipv6); !ours {
				_, ours = want.Lookup(at)
			}
			if ours {
				left++
			}
		}
	}
	return left, nil
}
