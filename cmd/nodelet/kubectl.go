package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"nodelet/node"
)

// kubectlCommand replaces this process by upstream's kubectl, which is compiled
// into nodelet-controlplane. Every flag is kubectl's, but for a leading --data-dir.
func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [--data-dir DIR] ...",
		Short:              "Run upstream's kubectl with the cluster's admin credentials",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			data := node.DefaultDataDir
			if len(args) > 1 && args[0] == "--data-dir" {
				data, args = args[1], args[2:]
			} else if len(args) > 0 && strings.HasPrefix(args[0], "--data-dir=") {
				data, args = strings.TrimPrefix(args[0], "--data-dir="), args[1:]
			}
			exe, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find own program file: %w", err)
			}
			program := filepath.Join(filepath.Dir(exe), "nodelet-controlplane")
			env := os.Environ()
			if os.Getenv("KUBECONFIG") == "" && !slices.ContainsFunc(args, isKubeconfigFlag) {
				admin := node.Layout{Data: data}.AdminKubeconfig()
				if _, err := os.Stat(admin); err != nil { // kubectl would ask localhost:8080, and say only that
					fmt.Fprintf(os.Stderr, "nodelet: no credentials for a cluster in %s: start one with nodelet up, or name others with --kubeconfig or KUBECONFIG\n", admin)
				}
				env = append(env, "KUBECONFIG="+admin)
			}
			err = syscall.Exec(program, append([]string{program, "kubectl"}, args...), env)
			return fmt.Errorf("run %s: %w (run make build, or use any other kubectl with KUBECONFIG=%s)", program, err, node.Layout{Data: data}.AdminKubeconfig())
		},
	}
}

func isKubeconfigFlag(arg string) bool {
	return arg == "--kubeconfig" || strings.HasPrefix(arg, "--kubeconfig=")
}
