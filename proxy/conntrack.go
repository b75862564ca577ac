package proxy

import (
	"context"
	"net/netip"

	"nodelet/internal/conntrack"
	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// flows is the door to connection tracking.
type flows interface {
	Delete(ctx context.Context, ipv6 bool, wrong func(conntrack.Flow) bool) (int, error)
}

// stale are flows to look for, so that one pass over the table serves all.
type stale struct {
	byAddr map[netip.AddrPort]*lb.StaleFlows
	byPort [2]map[uint16]*lb.StaleFlows
	// families that have any.
	families [2]bool
}

func index(ipv6 bool) int {
	if ipv6 {
		return 1
	}
	return 0
}

// staleFlows gathers what changed from prev to next, and frontends that went
// while nobody was watching.
func staleFlows(prev, next *lb.State, gone []lb.Frontend) *stale {
	s := &stale{byAddr: map[netip.AddrPort]*lb.StaleFlows{}}
	s.byPort[0], s.byPort[1] = map[uint16]*lb.StaleFlows{}, map[uint16]*lb.StaleFlows{}
	for _, f := range gone {
		if f.Proto == model.UDP {
			s.add(&lb.StaleFlows{Frontend: f, Gone: true})
		}
	}
	for st := range lb.Stale(prev, next) {
		s.add(&st)
	}
	return s
}

func (s *stale) add(f *lb.StaleFlows) {
	s.families[index(f.IPv6())] = true
	if f.NodePort() {
		s.byPort[index(f.IPv6())][f.Port] = f
		return
	}
	s.byAddr[netip.AddrPortFrom(f.Addr, f.Port)] = f
}

// wrong tells whether a tracked flow has to go.
func (s *stale) wrong(state *lb.State, f conntrack.Flow) bool {
	if f.Proto != uint8(model.UDP) {
		return false
	}
	if st := s.byAddr[f.Dst]; st != nil && st.Wrong(f.Dst, f.AnswersFrom, false) {
		return true
	}
	st := s.byPort[index(f.Dst.Addr().Is6())][f.Dst.Port()]
	return st != nil && st.Wrong(f.Dst, f.AnswersFrom, state.LocalAddr(f.Dst.Addr()))
}

// flush deletes the flows of a family; it gives their number.
func (s *stale) flush(ctx context.Context, ct flows, state *lb.State, ipv6 bool) (int, error) {
	return ct.Delete(ctx, ipv6, func(f conntrack.Flow) bool { return s.wrong(state, f) })
}
