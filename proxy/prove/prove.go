package prove

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"nodelet/internal/nft/sim"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// Subject is something that is compared with the meaning. Rules that somebody
// else has written, an upstream kube-proxy for example, are one as well: see Held.
type Subject interface {
	Name() string
	// Disagree makes the subject do what the state says and gives, for the first
	// packet that fares otherwise than eval says, what happened; empty for none.
	Disagree(ctx context.Context, s *lb.State, packets []string) (string, error)
	Close() error
}

// Options say how much is proven.
type Options struct {
	Seed  uint64
	Cases int
	// Tell hears of progress, now and then; may be nil.
	Tell func(done int)
}

// Report is the outcome.
type Report struct {
	Cases, Packets int
	// Known counts packets that fared otherwise as it is known of the subject, by the name of the Difference.
	Known map[string]int
	// Failed is the smallest case found for the first disagreement; nil for none.
	Failed *Failure
}

// Failure is a disagreement.
type Failure struct {
	Subject string
	// Number is that of the case; with the seed it gives it again.
	Number int
	Case   Case
	What   string
}

// String is the failure for people.
func (f *Failure) String() string {
	return fmt.Sprintf("%s disagrees with the meaning in case %d:\n%s\n%s", f.Subject, f.Number, f.What, f.Case)
}

// Run compares until the first disagreement, which it makes small.
func Run(ctx context.Context, o Options, subjects ...Subject) (Report, error) {
	rep := Report{Known: map[string]int{}}
	defer func() {
		for _, s := range subjects {
			if k, ok := s.(interface{ Known() map[string]int }); ok {
				for name, n := range k.Known() {
					rep.Known[name] += n
				}
			}
		}
	}()
	for i := range o.Cases {
		c := Random(rand.New(rand.NewPCG(o.Seed, uint64(i))))
		for _, s := range subjects {
			what, err := disagree(ctx, s, c)
			if err != nil {
				return rep, fmt.Errorf("run case %d of seed %d on %s: %w\n%s", i, o.Seed, s.Name(), err, c)
			}
			if what != "" {
				small, what := minimise(ctx, s, c, what)
				rep.Failed = &Failure{Subject: s.Name(), Number: i, Case: small, What: what}
				return rep, nil
			}
		}
		rep.Cases++
		rep.Packets += len(c.Packets) * len(subjects)
		if o.Tell != nil && rep.Cases%100 == 0 {
			o.Tell(rep.Cases)
		}
	}
	return rep, ctx.Err()
}

func disagree(ctx context.Context, s Subject, c Case) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	state, err := c.State()
	if err != nil {
		return "", err
	}
	return s.Disagree(ctx, state, c.Packets)
}

// minimise leaves out packets and objects as long as there is a disagreement.
func minimise(ctx context.Context, s Subject, c Case, what string) (Case, string) {
	still := func(smaller Case) bool {
		again, err := disagree(ctx, s, smaller)
		if err != nil || again == "" {
			return false
		}
		c, what = smaller, again
		return true
	}
	for shrunk := true; shrunk; {
		shrunk = false
		for i := len(c.Packets) - 1; i >= 0 && len(c.Packets) > 1; i-- {
			shrunk = still(Case{c.World, without(c.Packets, i)}) || shrunk
		}
		for i := len(c.World) - 1; i >= 0; i-- {
			shrunk = still(Case{without(c.World, i), c.Packets}) || shrunk
		}
	}
	return c, what
}

func without(list []string, i int) []string {
	return slices.Delete(slices.Clone(list), i, i+1)
}

// world is what rules ask of the node of the cases.
func world() sim.World {
	return sim.World{Local: ofNode, Out: func(a netip.Addr) string {
		for _, h := range hosts() {
			if (h.ip4 == a.String() || h.ip6 == a.String()) && h.name != "node" {
				return "to-" + h.name
			}
		}
		return "to-outside"
	}, Recent: func(string, netip.Addr) bool { return false }}
}

// place is where packets are followed: rules, and what they ask of the node.
type place struct {
	rules *sim.Ruleset
	world sim.World
}

// follow runs packets through rules and gives the first disagreement.
func follow(at place, s *lb.State, packets []string) (string, error) {
	for _, text := range packets {
		p, h, err := packet(text)
		if err != nil {
			return "", err
		}
		in := ""
		if p.From != lb.FromNode {
			in = "to-" + h.name
		}
		ways, complete := sim.Run(at.rules, at.world, sim.Packet{
			Src: netip.AddrPortFrom(p.Src, 40000), Dst: p.Dst, Proto: uint8(p.Proto), In: in,
		})
		if !complete {
			return "", fmt.Errorf("follow %s: more ways than can be followed", text)
		}
		if what := compare(eval.Eval(s, p), p, ways); what != "" {
			return fmt.Sprintf("%s\n  eval:  %s\n  rules: %s", text, eval.Eval(s, p), what), nil
		}
	}
	return "", nil
}

// compare holds the ways of a packet against the verdict; it gives the way that is wrong.
func compare(v eval.Verdict, p eval.Packet, ways []sim.Outcome) string {
	share := map[netip.AddrPort]float64{}
	for _, w := range ways {
		at := slices.Index(v.Endpoints, w.Dst)
		right := false
		switch v.Outcome {
		case eval.NoService:
			right = w.End == sim.Passed && w.Dst == p.Dst && !w.Masqueraded
		case eval.Reject:
			right = w.End == sim.Rejected
		case eval.Drop:
			right = w.End == sim.Dropped
		case eval.DNAT:
			right = w.End == sim.Passed && at >= 0 && w.Translated && w.Masqueraded == v.Masquerade[at]
		}
		if !right || len(w.Unknown) > 0 {
			return w.String()
		}
		share[w.Dst] += w.Weight
	}
	if v.Outcome != eval.DNAT || v.Sticky {
		return ""
	}
	const tolerance = 0.001
	for _, e := range v.Endpoints {
		if d := share[e] - v.Chance(); d > tolerance || d < -tolerance {
			return fmt.Sprintf("%s gets %.3f of the connections, not %.3f", e, share[e], v.Chance())
		}
	}
	return ""
}
