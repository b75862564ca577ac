package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func main() {
	// kubectl reads its arguments from os.Args itself, flags included. A link of
	// that name does as well, for programs that want one.
	switch {
	case filepath.Base(os.Args[0]) == "kubectl":
		kubectl()
		return
	case len(os.Args) > 1 && os.Args[1] == "kubectl":
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
	root.AddCommand(serveCommand(), nodeKubeconfigCommand(), bootstrapKubeconfigCommand(), versionCommand(), &cobra.Command{
		Use:   "kubectl",
		Short: "Upstream's kubectl (honours KUBECONFIG and --kubeconfig)",
		Run:   func(*cobra.Command, []string) {}, // never reached: see above
	})
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "nodelet-controlplane:", err)
		os.Exit(1)
	}
}
