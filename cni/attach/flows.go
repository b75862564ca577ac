package attach

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"nodelet/cni/ipam"
	"nodelet/internal/conntrack"
)

// protoUDP is the IANA number. Connections of UDP have no end: a client that
// goes on sending keeps the translation of its first packet for good, to a pod
// that is gone, or to nobody when it began before the port was open.
const protoUDP = 17

// endFlows makes the kernel forget the UDP flows of host ports that were
// opened or closed, so that their next packet is translated anew.
func endFlows(ctx context.Context, leases []ipam.Lease, wrong func(conntrack.Flow) bool) error {
	udp := func(p ipam.Port) bool { return p.Proto == "udp" }
	if !slices.ContainsFunc(leases, func(l ipam.Lease) bool { return slices.ContainsFunc(l.Ports, udp) }) {
		return nil
	}
	conn, err := conntrack.Open(0)
	if err != nil {
		return err
	}
	defer conn.Close()
	var errs []error
	for _, v6 := range []bool{false, true} {
		_, err := conn.Delete(ctx, v6, wrong)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// closedFlows picks flows that were translated to a lease that is going.
func closedFlows(dead []ipam.Lease) func(conntrack.Flow) bool {
	return func(f conntrack.Flow) bool {
		return f.Proto == protoUDP && f.AnswersFrom != f.Dst && slices.ContainsFunc(dead, func(l ipam.Lease) bool {
			return slices.Contains(l.Addrs, f.AnswersFrom.Addr())
		})
	}
}

// openedFlows picks flows to a port of the lease on this host that began
// before it was open and so are not translated.
func openedFlows(lease ipam.Lease, nodeIPs []netip.Addr) func(conntrack.Flow) bool {
	return func(f conntrack.Flow) bool {
		return f.Proto == protoUDP && f.AnswersFrom == f.Dst && slices.ContainsFunc(lease.Ports, func(p ipam.Port) bool {
			here := p.HostIP == f.Dst.Addr() || !p.HostIP.IsValid() && slices.Contains(nodeIPs, f.Dst.Addr())
			return p.Proto == "udp" && p.HostPort == f.Dst.Port() && here
		})
	}
}
