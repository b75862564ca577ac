package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
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
		SilenceErrors: true,
		Version:       version.Version + " (Kubernetes " + version.Kubernetes + ")",
	}
	c.AddCommand(upCommand(), downCommand(), resetCommand(), nodeCommand(), kubectlCommand(),
		statusCommand(), revCommand(), servicesCommand(), endpointsCommand(), dnsCommand(), imagesCommand(), snapshotCommand(), timelineCommand(),
		explainCommand(), proveCommand())
	c.AddCommand(proxyCommand())
	return c
}
