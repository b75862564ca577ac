package main

import (
	"fmt"

	"github.com/spf13/cobra"
	etcdversion "go.etcd.io/etcd/api/v3/version"
	kubeversion "k8s.io/component-base/version"

	"nodelet/controlplane/serve"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of what is in it",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "nodelet-controlplane %s\nkubernetes %s\netcd %s\n",
				serve.Version, kubeversion.Get().GitVersion, etcdversion.Version)
		},
	}
}
