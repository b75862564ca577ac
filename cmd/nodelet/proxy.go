package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"nodelet/internal/control"
	"nodelet/node"
	"nodelet/proxy"
)

func proxyCommand() *cobra.Command {
	return group("proxy", "Work with the service proxy", proxyStatusCommand(), proxyCountersCommand(), proxySwitchCommand(), proxyCleanupCommand())
}

func proxyStatusCommand() *cobra.Command {
	return reader[proxy.Status]{
		use: "status", short: "Show the mode in use and why, and what was repaired", args: cobra.NoArgs,
		resource: func([]string) string { return "proxy" },
		print: func(w io.Writer, s proxy.Status) {
			fmt.Fprintf(w, "mode       %s (IPv6 %t): %s\n", s.Mode, s.IPv6, s.Why)
			fmt.Fprintf(w, "frontends  %d\n", s.Frontends)
			fmt.Fprintf(w, "repairs    %d", s.Repairs)
			if d := s.Last; d != nil {
				fmt.Fprintf(w, ", the last at %s: changed by %s, repaired in %s", d.Time.Format("2006-01-02 15:04:05"), d.By, d.Took.Round(time.Millisecond))
			}
			fmt.Fprintln(w)
			if d := s.Draining; d != nil {
				fmt.Fprintf(w, "draining   %s: %d connections since %s go on by its programs, until %s at most\n", d.Mode, d.Connections,
					d.Since.Format("15:04:05"), d.Until.Format("15:04:05"))
			}
			printShortcuts(w, s)
			for _, r := range s.Refused {
				fmt.Fprintf(w, "refused    %s\n", r)
			}
		},
	}.command()
}

// printShortcuts tells where packets of known connections are forwarded by XDP.
func printShortcuts(w io.Writer, s proxy.Status) {
	for _, x := range s.XDP {
		switch {
		case !x.On:
			fmt.Fprintf(w, "xdp        not on %s: %s\n", x.Link, x.Why)
		case x.Why != "":
			fmt.Fprintf(w, "xdp        on %s; %s\n", x.Link, x.Why)
		default:
			fmt.Fprintf(w, "xdp        on %s\n", x.Link)
		}
	}
	if len(s.XDP) > 0 {
		fmt.Fprintf(w, "xdp        %d packets forwarded since the daemon started\n", s.XDPPackets)
	}
}

func proxyCountersCommand() *cobra.Command {
	return reader[[]proxy.ServiceCount]{
		use: "counters [namespace/name]", short: "Show what went through each Service (mode ebpf)", args: cobra.MaximumNArgs(1),
		resource: filtered("proxy/counters"),
		print: func(w io.Writer, list []proxy.ServiceCount) {
			t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "SERVICE\tPORT\tCONNECTIONS\tPACKETS\tBYTES")
			for _, c := range list {
				fmt.Fprintf(t, "%s\t%s/%s\t%d\t%d\t%d\n", c.Name, c.Port, c.Protocol, c.Connections, c.Packets, c.Bytes)
			}
			_ = t.Flush()
		},
	}.command()
}

func proxySwitchCommand() *cobra.Command {
	var place placeFlags
	c := &cobra.Command{
		Use: "switch MODE", Short: "Change the mode without losing a connection: " + strings.Join(proxy.Modes(), ", "), Args: cobra.ExactArgs(1),
		Long: "Puts all Services into the kernel by another back end, and then removes the rules of the one in use.\n" +
			"When the new one does not work, nothing changes. The mode is kept over restarts.",
	}
	place.add(c.Flags())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		layout, err := place.layout()
		if err != nil {
			return err
		}
		if err := proxy.CheckMode(args[0]); err != nil {
			return err
		}
		var done proxy.Switched
		if err := control.NewClient(layout.Socket()).Post(cmd.Context(), "proxy/switch?mode="+url.QueryEscape(args[0]), nil, &done); err != nil {
			return err
		}
		for _, s := range done.Steps {
			fmt.Fprintln(cmd.OutOrStdout(), s)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "switched from %s to %s\n", done.From, done.To)
		return nil
	}
	return c
}

func proxyCleanupCommand() *cobra.Command {
	var place placeFlags
	var foreign bool
	c := &cobra.Command{Use: "cleanup", Short: "Remove the proxy's rules of every mode; the daemon must not run", Args: cobra.NoArgs}
	place.add(c.Flags())
	c.Flags().BoolVar(&foreign, "foreign", false, "also remove what an upstream kube-proxy has left")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		layout, err := place.layout()
		if err != nil {
			return err
		}
		var status control.Status
		if control.NewClient(layout.Socket()).Get(cmd.Context(), "status", &status) == nil {
			return errors.New("the daemon runs and would write the rules anew: stop it first (nodelet down), or use another mode (nodelet proxy switch)")
		}
		removed, err := node.CleanupProxy(cmd.Context(), layout, foreign)
		out := cmd.OutOrStdout()
		for _, r := range removed {
			fmt.Fprintln(out, "removed", r)
		}
		if err != nil {
			return err
		}
		if !foreign {
			theirs, err := node.ForeignProxy(cmd.Context())
			for _, f := range theirs {
				fmt.Fprintf(out, "left: %s (remove it with --foreign)\n", f)
			}
			return err
		}
		return nil
	}
	return c
}
