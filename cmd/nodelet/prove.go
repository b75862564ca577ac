package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nodelet/internal/xtables"
	"nodelet/proxy/prove"
)

func proveCommand() *cobra.Command {
	c := &cobra.Command{Use: "prove", Short: "Prove by trial what is promised"}
	c.AddCommand(proveBackendsCommand())
	return c
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
	var backends, how []string
	c := &cobra.Command{
		Use:   "backends",
		Short: "Compare the proxy's back ends with what Services mean, on random worlds and packets",
		Long: "backends makes random Services, endpoints and packets, asks the executable meaning what must happen, and looks what\n" +
			"does: in the rules as rendered (simulated), in the rules as the kernel holds them (held), and with real packets\n" +
			"(packets). The last two need root and work in network namespaces of their own. The first disagreement is made as\n" +
			"small as it can be and printed; the exit code is then 3. One seed gives the same cases everywhere.",
		Example: "  nodelet prove backends --cases 5000\n  nodelet prove backends --seed 42 --cases 100 --how packets",
		Args:    cobra.NoArgs,
	}
	c.Flags().Uint64Var(&seed, "seed", 0, "what the cases come from (0: a random one, which is printed)")
	c.Flags().IntVar(&cases, "cases", 200, "how many cases are run")
	c.Flags().StringSliceVar(&backends, "backend", nil, "back ends to compare (default: each that this machine can run)")
	c.Flags().StringSliceVar(&how, "how", []string{"simulated", "held", "packets"}, "how they are compared")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if cases < 1 {
			return fmt.Errorf("--cases %d: at least 1", cases)
		}
		if seed == 0 {
			seed = rand.Uint64()
		}
		subjects, err := openProofs(cmd.OutOrStdout(), backends, how)
		defer func() {
			for _, s := range subjects {
				err = errors.Join(err, s.Close())
			}
		}()
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		fmt.Fprintf(out, "seed %d, %d cases\n", seed, cases)
		rep, err := prove.Run(cmd.Context(), prove.Options{Seed: seed, Cases: cases, Tell: func(done int) {
			fmt.Fprintf(out, "%d cases agree\n", done)
		}}, subjects...)
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
	return c
}

// openProofs gives those that were opened even when one could not be. Without
// back ends by name, those that this machine cannot run are named and left out.
func openProofs(w io.Writer, backends, how []string) (out []prove.Subject, err error) {
	known := func(of func(proof) string) (names []string) {
		for _, p := range proofs() {
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
	for _, p := range proofs() {
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
