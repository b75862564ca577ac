package prove

import (
	"context"
	"errors"

	"nodelet/internal/ipvs"
	"nodelet/internal/netns"
	"nodelet/internal/nft"
	"nodelet/internal/nft/sim"
	"nodelet/internal/xtables"
	"nodelet/proxy/lb"
	"nodelet/proxy/nftables"
)

// Simulated is the nftables back end without a kernel: what it would write,
// followed by package sim.
func Simulated() Subject {
	return simulated{"nftables simulated", func(s *lb.State, ipv6 bool) ([]sim.Table, error) {
		t, err := nftables.Rendered(s, ipv6).Simulated()
		if err != nil {
			return nil, err
		}
		return []sim.Table{*t}, nil
	}}
}

// simulated follows what a back end would write.
type simulated struct {
	name   string
	render func(s *lb.State, ipv6 bool) ([]sim.Table, error)
}

func (s simulated) Name() string { return s.name }
func (simulated) Close() error   { return nil }

func (s simulated) Disagree(_ context.Context, state *lb.State, packets []string) (string, error) {
	rules := &sim.Ruleset{}
	for _, ipv6 := range []bool{false, true} {
		tables, err := s.render(state, ipv6)
		if err != nil {
			return "", err
		}
		rules.Tables = append(rules.Tables, tables...)
	}
	return follow(place{rules, world()}, state, packets)
}

// Held are the rules that a kernel holds once somebody has written them into a
// namespace, nf_tables' and those of legacy iptables: one of our back ends, or another proxy.
type Held struct {
	name  string
	ns    *netns.NS
	conn  *nft.Conn
	write Writer
	close func() error
}

// NewHeld makes a namespace; open gives the writer for it.
func NewHeld(name string, open func(netns int) (Writer, func() error, error)) (*Held, error) {
	ns, err := netns.New()
	if err != nil {
		return nil, err
	}
	h := &Held{name: name, ns: ns}
	if h.conn, err = nft.Open(nft.Options{NetNS: ns.Fd()}); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	if h.write, h.close, err = open(ns.Fd()); err != nil {
		return nil, errors.Join(err, h.conn.Close(), ns.Close())
	}
	return h, nil
}

// HeldNftables is the nftables back end in a kernel. All cases of a run go
// through one back end, so that the way from each to the next is proven too.
func HeldNftables() (*Held, error) { return NewHeld("nftables in the kernel", openNftables) }

// PacketsNftables are real packets through the nftables back end.
func PacketsNftables() (*Packets, error) { return NewPackets("nftables with packets", openNftables) }

func openNftables(fd int) (Writer, func() error, error) {
	back, err := nftables.New(nftables.Config{NetNS: fd, IPv6: true})
	if err != nil {
		return nil, nil, err
	}
	write := func(ctx context.Context, s *lb.State) error {
		_, err := back.Apply(ctx, s)
		return err
	}
	return write, back.Close, nil
}

// Name says what it is.
func (h *Held) Name() string { return h.name }

// Close lets the namespace go, and with it the rules.
func (h *Held) Close() error { return errors.Join(h.close(), h.conn.Close(), h.ns.Close()) }

// Disagree writes the rules, reads them back and follows the packets.
func (h *Held) Disagree(ctx context.Context, s *lb.State, packets []string) (string, error) {
	if err := h.write(ctx, s); err != nil {
		return "", err
	}
	rules, err := readRules(ctx, h.conn, h.ns.Fd())
	if err != nil {
		return "", err
	}
	virtual, err := ipvs.Chosen(h.ns.Fd())
	if err != nil {
		return "", err
	}
	return follow(place{rules, virtual.In(world())}, s, packets)
}

// readRules reads what a namespace holds: nf_tables, and legacy iptables.
func readRules(ctx context.Context, conn *nft.Conn, netns int) (*sim.Ruleset, error) {
	rules, err := conn.Everything(ctx)
	if err != nil {
		return nil, err
	}
	for _, ipv6 := range []bool{false, true} {
		legacy, err := xtables.LegacyTables(ctx, netns, ipv6)
		if err != nil {
			return nil, err
		}
		rules.Tables = append(rules.Tables, legacy...)
	}
	return rules, nil
}
