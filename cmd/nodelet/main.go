package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"nodelet/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := root().ExecuteContext(ctx)
	if err == nil {
		return
	}
	if code := exitCode(0); !errors.Is(err, errReported) && !errors.As(err, &code) {
		fmt.Fprintln(os.Stderr, "nodelet:", err)
	}
	stop()
	code := exitCode(1)
	errors.As(err, &code)
	os.Exit(int(code))
}

// group makes a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: chosen}
	c.AddCommand(below...)
	return c
}

// chosen is what a command that only has others below it does when none of them was named.
func chosen(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	c.SuggestionsMinimumDistance = 2 // letters between what was written and what was meant
	hint := "see " + c.CommandPath() + " --help"
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "? Else " + hint
	}
	return fmt.Errorf("unknown command %q for %q: %s", args[0], c.CommandPath(), hint)
}

// errReported ends a command whose error has been printed already.
var errReported = errors.New("reported")

// exitCode ends a command that has said all it has to say with a code other than 1.
type exitCode int

// Error is never shown.
func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "nodelet",
		Short:         "A Kubernetes node in one daemon",
		Long:          "nodelet is a Kubernetes node in one daemon: kubelet, kube-proxy, CNI plugin and cluster DNS,\nwith a small control plane for those who have none.",
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          chosen,
		SilenceErrors: true,
		Version:       version.Version + " (Kubernetes " + version.Kubernetes + ")",
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return fmt.Errorf("%w: see %s --help", err, c.CommandPath()) })
	c.AddCommand(upCommand(), downCommand(), resetCommand(), nodeCommand(), kubectlCommand(),
		statusCommand(), revCommand(), servicesCommand(), endpointsCommand(), dnsCommand(), imagesCommand(), snapshotCommand(), timelineCommand(),
		explainCommand(), proveCommand())
	c.AddCommand(proxyCommand())
	return c
}
