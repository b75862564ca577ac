package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

var (
	// ErrExhausted says that all addresses of a range are in use.
	ErrExhausted = errors.New("no free address")
	// ErrPortTaken says that a host port leads to another attachment already.
	ErrPortTaken = errors.New("host port is taken")
)

// Allocate gives the lease want one address of each range, at most one range
// per family. A lease of that veth name that exists keeps its addresses where
// they fit the families asked for; what else is known of it is replaced.
func Allocate(s State, ranges []netip.Prefix, want Lease) (State, Lease, error) {
	if len(ranges) == 0 {
		return s, Lease{}, fmt.Errorf("allocate address for %s: the network configuration has no subnet", want.Veth)
	}
	old, _ := s.Lease(want.Veth)
	want.Addrs = nil
	for _, r := range ranges {
		a := sameFamily(old.Addrs, r)
		if !a.IsValid() {
			var err error
			if a, err = s.next(r.Masked()); err != nil {
				return s, Lease{}, fmt.Errorf("allocate address for %s: %w", want.Veth, err)
			}
			s.Last = withLast(s.Last, a)
		}
		want.Addrs = append(want.Addrs, a)
	}
	for _, p := range want.Ports {
		if other, ok := s.portHolder(p, want.Veth); ok {
			return s, Lease{}, fmt.Errorf("allocate host port %s for %s: %w by pod %s (sandbox %.12s)",
				p, want.Veth, ErrPortTaken, other.Pod, other.ContainerID)
		}
	}
	return s.with(want), want, nil
}

// Release forgets the lease of a veth name, and returns it; none is fine.
func Release(s State, veth string) (State, Lease) {
	i, ok := s.find(veth)
	if !ok {
		return s, Lease{}
	}
	gone := s.Leases[i]
	s.Leases = slices.Delete(slices.Clone(s.Leases), i, i+1)
	return s, gone
}

// ClosePorts takes the host ports from the leases that dead names.
func ClosePorts(s State, dead func(Lease) bool) State {
	s.Leases = slices.Clone(s.Leases)
	for i, l := range s.Leases {
		if dead(l) {
			s.Leases[i].Ports = nil
		}
	}
	return s
}

// Keep releases every lease that alive denies, and returns those.
func Keep(s State, alive func(Lease) bool) (State, []Lease) {
	var kept, gone []Lease
	for _, l := range s.Leases {
		if alive(l) {
			kept = append(kept, l)
		} else {
			gone = append(gone, l)
		}
	}
	if len(gone) > 0 {
		s.Leases = kept
	}
	return s, gone
}

// next finds the first free address after the last one given out. It looks at
// one address more than there are leases at most: a free one is among them.
func (s State) next(r netip.Prefix) (netip.Addr, error) {
	used := make(map[netip.Addr]bool, len(s.Leases))
	for _, l := range s.Leases {
		for _, a := range l.Addrs {
			used[a] = true
		}
	}
	first, last := bounds(r)
	a := sameFamily(s.Last, r)
	if !a.IsValid() || !r.Contains(a) {
		a = netip.Addr{}
	}
	for range len(used) + 1 {
		if a = after(a, first, last); !used[a] {
			return a, nil
		}
		if first == last {
			break
		}
	}
	return netip.Addr{}, fmt.Errorf("%w in %s: %d leases; delete pods, or give nodes a larger pod CIDR", ErrExhausted, r, len(s.Leases))
}

// bounds are the first and the last address to give out: all but the network
// and the broadcast address of IPv4, all but the router anycast address of
// IPv6; in ranges of one or two addresses all.
func bounds(r netip.Prefix) (first, last netip.Addr) {
	first = r.Addr()
	b := first.AsSlice()
	for i := r.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ = netip.AddrFromSlice(b)
	if first.BitLen()-r.Bits() <= 1 {
		return first, last
	}
	if first.Is4() {
		last = last.Prev()
	}
	return first.Next(), last
}

func after(a, first, last netip.Addr) netip.Addr {
	if !a.IsValid() || a.Less(first) || !a.Less(last) {
		return first
	}
	return a.Next()
}

func sameFamily(addrs []netip.Addr, r netip.Prefix) netip.Addr {
	for _, a := range addrs {
		if a.Is4() == r.Addr().Is4() {
			return a
		}
	}
	return netip.Addr{}
}

func withLast(last []netip.Addr, a netip.Addr) []netip.Addr {
	out := []netip.Addr{a}
	for _, l := range last {
		if l.Is4() != a.Is4() {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// portHolder finds the other lease whose host port overlaps with p.
func (s State) portHolder(p Port, veth string) (Lease, bool) {
	for _, l := range s.Leases {
		if l.Veth == veth {
			continue
		}
		for _, q := range l.Ports {
			anyIP := !p.HostIP.IsValid() || !q.HostIP.IsValid() || p.HostIP == q.HostIP
			if p.Proto == q.Proto && p.HostPort == q.HostPort && anyIP {
				return l, true
			}
		}
	}
	return Lease{}, false
}
