package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev"

func main() {
	// kubectl reads its arguments from os.Args itself, flags included.
	if len(os.Args) > 1 && os.Args[1] == "kubectl" {
		os.Args = os.Args[1:]
		kubectl()
		return
	}
	root := &cobra.Command{
		Use:           "nodelet-controlplane",
		Short:         "The control plane of a nodelet cluster in one process",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(), nodeKubeconfigCommand(), versionCommand(), &cobra.Command{
		Use:   "kubectl",
		Short: "Upstream's kubectl (honours KUBECONFIG and --kubeconfig)",
		Run:   func(*cobra.Command, []string) {}, // never reached: see above
	})
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "nodelet-controlplane:", err)
		os.Exit(1)
	}
}
