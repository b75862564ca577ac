package prove

import (
	"context"

	"nodelet/internal/nft/sim"
	"nodelet/internal/xtables"
	"nodelet/proxy/iptables"
	"nodelet/proxy/lb"
)

// SimulatedIptables is the iptables back end without a kernel: what it would
// write, followed by package sim.
func SimulatedIptables() Subject {
	return simulated{"iptables simulated", func(s *lb.State, ipv6 bool) ([]sim.Table, error) {
		return sim.ParseSave(iptables.Rendered(s, ipv6), ipv6)
	}}
}

// HeldIptables are the rules of the iptables back end in a kernel, by one of
// the variants of iptables.
func HeldIptables(v xtables.Variant) (*Held, error) {
	return NewHeld("iptables-"+string(v)+" in the kernel", openIptables(v))
}

// PacketsIptables are real packets through the iptables back end.
func PacketsIptables(v xtables.Variant) (*Packets, error) {
	return NewPackets("iptables-"+string(v)+" with packets", openIptables(v))
}

func openIptables(v xtables.Variant) func(fd int) (Writer, func() error, error) {
	return func(fd int) (Writer, func() error, error) {
		back, err := iptables.New(context.Background(), iptables.Config{NetNS: fd, IPv6: true, Variant: v})
		if err != nil {
			return nil, nil, err
		}
		write := func(ctx context.Context, s *lb.State) error {
			_, err := back.Apply(ctx, s)
			return err
		}
		return write, back.Close, nil
	}
}
