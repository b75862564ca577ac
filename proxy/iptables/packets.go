package iptables

import "context"

// Packets are counted by rules that are always there. The kernel begins anew when somebody else has
// changed their chain and it is put right.
type Packets struct {
	// Invalid were dropped because connection tracking found them invalid.
	Invalid uint64
	// Localhost began connections to node ports on loopback addresses.
	Localhost uint64
}

// Packets reads the counters of both families. It may be called by any goroutine.
func (b *Backend) Packets(ctx context.Context) (sum Packets, err error) {
	for _, f := range b.families {
		if !b.cfg.TCPBeLiberal {
			n, err := f.bulk.Counted(ctx, tables[filter], chainForward)
			if err != nil {
				return Packets{}, err
			}
			sum.Invalid += n[dropInvalid]
		}
		if f.ipv6 { // the kernel has route_localnet for IPv4 only
			continue
		}
		n, err := f.bulk.Counted(ctx, tables[nat], chainPost)
		if err != nil {
			return Packets{}, err
		}
		sum.Localhost += n[(&renderer{}).localhost()]
	}
	return sum, nil
}
