package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nodelet/internal/xtables"
	"nodelet/proxy/prove"
)

func proveCommand() *cobra.Command {
	return group("prove", "Prove by trial what is promised", proveBackendsCommand())
}

// proof is one way to compare a back end with the meaning.
type proof struct {
	backend, how string
	open         func() (prove.Subject, error)
}

func proofs() []proof {
	return []proof{
		{"nftables", "simulated", func() (prove.Subject, error) { return prove.Simulated(), nil }},
		{"nftables", "held", func() (prove.Subject, error) { return prove.HeldNftables() }},
		{"nftables", "packets", func() (prove.Subject, error) { return prove.PacketsNftables() }},
		{"ebpf", "simulated", func() (prove.Subject, error) { return prove.SimulatedEBPF(), nil }},
		{"ebpf", "held", prove.HeldEBPF},
		{"ebpf", "packets", func() (prove.Subject, error) { return prove.PacketsEBPF() }},
		{"iptables", "simulated", func() (prove.Subject, error) { return prove.SimulatedIptables(), nil }},
		{"iptables-legacy", "held", func() (prove.Subject, error) { return prove.HeldIptables(xtables.Legacy) }},
		{"iptables-legacy", "packets", func() (prove.Subject, error) { return prove.PacketsIptables(xtables.Legacy) }},
		{"iptables-nft", "held", func() (prove.Subject, error) { return prove.HeldIptables(xtables.NFT) }},
		{"iptables-nft", "packets", func() (prove.Subject, error) { return prove.PacketsIptables(xtables.NFT) }},
		{"ipvs", "held", func() (prove.Subject, error) { return prove.HeldIPVS() }},
		{"ipvs", "packets", func() (prove.Subject, error) { return prove.PacketsIPVS() }},
	}
}

func proveBackendsCommand() *cobra.Command {
	var seed uint64
	var cases int
	var backends, how, against []string
	c := &cobra.Command{
		Use:   "backends",
		Short: "Compare the proxy's back ends with what Services mean, on random worlds and packets",
		Long: "backends makes random Services, endpoints and packets, asks the executable meaning what must happen, and looks what\n" +
			"does: in the rules as rendered (simulated), in the rules as the kernel holds them (held), and with real packets\n" +
			"(packets). The last two need root and work in network namespaces of their own. The first disagreement is made as\n" +
			"small as it can be and printed; the exit code is then 3. One seed gives the same cases everywhere.\n" +
			"With --against, the same is done with the rules of an upstream kube-proxy, which is started for it; what it is\n" +
			"known to do otherwise (docs/proxy.md) is counted.",
		Example: "  nodelet prove backends --cases 5000\n  nodelet prove backends --seed 42 --cases 100 --how packets\n" +
			"  nodelet prove backends --against kube-proxy=/usr/local/bin/kube-proxy,mode=nftables",
		Args: cobra.NoArgs,
	}
	c.Flags().Uint64Var(&seed, "seed", 0, "what the cases come from (0: a random one, which is printed)")
	c.Flags().IntVar(&cases, "cases", 200, "how many cases are run")
	c.Flags().StringSliceVar(&backends, "backend", nil, "back ends to compare (default: each that this machine can run)")
	c.Flags().StringSliceVar(&how, "how", []string{"simulated", "held", "packets"}, "how they are compared")
	c.Flags().StringArrayVar(&against, "against", nil, "compare an upstream kube-proxy instead of the back ends: kube-proxy=BINARY[,mode=iptables|nftables] (default: both modes)")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cases < 1 {
			return fmt.Errorf("--cases %d: at least 1", cases)
		}
		if seed == 0 {
			seed = rand.Uint64()
		}
		known := proofs()
		if len(against) > 0 {
			if known, err = upstreamProofs(against); err != nil {
				return err
			}
			if !cmd.Flags().Changed("how") {
				how = []string{"held", "packets"}
			}
		}
		subjects, err := openProofs(cmd.OutOrStdout(), known, asked{backends, how})
		defer func() {
			for _, s := range subjects {
				err = errors.Join(err, s.Close())
			}
		}()
		if err != nil {
			return err
		}
		return proveCases(cmd, prove.Options{Seed: seed, Cases: cases}, subjects)
	}
	return c
}

// proveCases runs the cases and says what came of them.
func proveCases(cmd *cobra.Command, o prove.Options, subjects []prove.Subject) error {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "seed %d, %d cases\n", o.Seed, o.Cases)
	o.Tell = func(done int) { fmt.Fprintf(out, "%d cases agree\n", done) }
	rep, err := prove.Run(cmd.Context(), o, subjects...)
	for _, name := range slices.Sorted(maps.Keys(rep.Known)) {
		fmt.Fprintf(out, "known difference %s: %d packets\n", name, rep.Known[name])
	}
	switch {
	case err != nil:
		return err
	case rep.Failed != nil:
		fmt.Fprint(out, rep.Failed)
		return exitBroken
	}
	fmt.Fprintf(out, "all %d cases agree, %d packets\n", rep.Cases, rep.Packets)
	return nil
}

// upstreamProofs are those of kube-proxies.
func upstreamProofs(against []string) (out []proof, err error) {
	for _, text := range against {
		all, err := prove.ParseKubeProxy(text)
		if err != nil {
			return nil, fmt.Errorf("--against %w", err)
		}
		for _, k := range all {
			out = append(out,
				proof{"kube-proxy-" + k.Mode, "held", func() (prove.Subject, error) { return prove.HeldKubeProxy(k) }},
				proof{"kube-proxy-" + k.Mode, "packets", func() (prove.Subject, error) { return prove.PacketsKubeProxy(k) }})
		}
	}
	return out, nil
}

// asked are the values of --backend and --how.
type asked struct{ backends, how []string }

// openProofs gives those that were opened even when one could not be. Without
// back ends by name, those that this machine cannot run are named and left out.
func openProofs(w io.Writer, proofs []proof, a asked) (out []prove.Subject, err error) {
	backends, how := a.backends, a.how
	known := func(of func(proof) string) (names []string) {
		for _, p := range proofs {
			if !slices.Contains(names, of(p)) {
				names = append(names, of(p))
			}
		}
		return names
	}
	check := func(flag string, asked, known []string) error {
		for _, a := range asked {
			if !slices.Contains(known, a) {
				return fmt.Errorf("--%s %q: known are %s", flag, a, strings.Join(known, ", "))
			}
		}
		return nil
	}
	all := known(func(p proof) string { return p.backend })
	err = errors.Join(check("backend", backends, all), check("how", how, known(func(p proof) string { return p.how })))
	if err != nil {
		return nil, err
	}
	whatever := len(backends) == 0
	if whatever {
		backends = all
	}
	for _, p := range proofs {
		if !slices.Contains(backends, p.backend) || !slices.Contains(how, p.how) {
			continue
		}
		s, err := p.open()
		if err != nil && whatever {
			fmt.Fprintf(w, "left out: %s %s: %v\n", p.backend, p.how, err)
			continue
		}
		if err != nil {
			return out, fmt.Errorf("prove %s %s: %w", p.backend, p.how, err)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, errors.New("nothing is asked for: pass --backend and --how")
	}
	return out, nil
}
