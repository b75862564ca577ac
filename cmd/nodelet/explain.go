package main

import (
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"nodelet/explain"
	"nodelet/internal/control"
)

// Exit codes of explain besides 0 (healthy) and 1 (the question cannot be asked).
const (
	exitBroken  exitCode = 3
	exitUnknown exitCode = 4
)

func explainCommand() *cobra.Command {
	var place placeFlags
	var output string
	c := &cobra.Command{
		Use:   "explain SRC DST[:PORT][/udp]",
		Short: "Say what happens to a packet, why, and what is broken: meaning, prediction, kernel, verdict",
		Long: "explain says what happens to a packet from SRC to DST: what the Service means, what follows from it, what the kernel\n" +
			"really holds and does, and, when it does not arrive, the first cause and how to mend it. It sends no packet.\n\n" +
			"SRC and DST are pod/NAMESPACE/NAME, svc/NAMESPACE/NAME (or a Service's DNS name), an address, node, outside,\n" +
			"localhost or nodeport:N. An address from outside may say by which interface it comes: 192.0.2.7@eth1.\n" +
			"Quote the arrow when you write one: nodelet explain 'pod/web -> svc/shop/cart:80'.\n\n" +
			"Exit codes: 0 healthy, 3 broken, 4 cannot tell, 1 the question cannot be asked.",
		Example: "  nodelet explain pod/default/client svc/shop/cart:80\n  nodelet explain outside nodeport:30080\n" +
			"  nodelet explain node 10.96.0.10:53/udp -o json",
		Args: cobra.MinimumNArgs(1),
	}
	place.add(c.Flags())
	outputFlag(c, &output)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if output != "" && output != "json" {
			return fmt.Errorf("--output %q: only json is known", output)
		}
		q, err := explain.Parse(args...)
		if err != nil {
			return err
		}
		layout, err := place.layout()
		if err != nil {
			return err
		}
		var a explain.Answer
		if err := control.NewClient(layout.Socket()).Get(cmd.Context(), "explain?question="+url.QueryEscape(q.Text), &a); err != nil {
			return err
		}
		if output == "json" {
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			err = enc.Encode(a)
		} else {
			_, err = fmt.Fprint(cmd.OutOrStdout(), a)
		}
		switch {
		case err != nil:
			return err
		case a.Verdict.State == explain.StateBroken:
			return exitBroken
		case a.Verdict.State == explain.StateUnknown:
			return exitUnknown
		}
		return nil
	}
	return c
}
