package lb

import (
	"iter"
	"net/netip"
	"slices"

	"nodelet/internal/model"
)

// StaleFlows names the tracked UDP flows of one frontend that are no longer
// right. A UDP client that keeps sending would go on for ever with what was
// right when it began: TCP connections end by themselves, UDP flows do not.
type StaleFlows struct {
	Frontend
	// Keep are the endpoints to which flows are right. They need not be chosen
	// for new flows: a change of policy or topology moves nobody.
	Keep []netip.AddrPort
	// Gone: the frontend is no longer served. Then only flows that were
	// translated are wrong; to an untranslated one it means nothing.
	Gone bool
}

// Stale yields what has to be looked for after a change from prev to next. A
// nil prev, after a restart, means every UDP frontend: flows that are still
// right stay.
func Stale(prev, next *State) iter.Seq[StaleFlows] {
	return func(yield func(StaleFlows) bool) {
		for c := range Changes(prev, next) {
			if c.Proto != model.UDP {
				continue
			}
			s := StaleFlows{Frontend: c.Frontend, Gone: c.New.Port == nil}
			if !s.Gone {
				s.Keep = c.New.Serving
				if c.Old.Port != nil && subset(c.Old.Serving, s.Keep) && len(c.Old.Serving) > 0 {
					continue // nobody left, and there was somebody before
				}
			}
			if !yield(s) {
				return
			}
		}
	}
}

func subset(a, b []netip.AddrPort) bool {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

// Wrong tells whether a tracked flow has to go: dst is where the client sends
// to, answers where the answers come from, local whether dst is this node's.
func (s *StaleFlows) Wrong(dst, answers netip.AddrPort, local bool) bool {
	translated := dst != answers
	if dst.Port() != s.Port || !translated && s.Gone {
		return false
	}
	if s.NodePort() {
		if dst.Addr().Is6() != s.IPv6() || !translated && !local {
			return false
		}
	} else if dst.Addr() != s.Addr {
		return false
	}
	return !slices.Contains(s.Keep, answers)
}
