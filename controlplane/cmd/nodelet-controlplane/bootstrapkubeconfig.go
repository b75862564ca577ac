package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"nodelet/controlplane/addons"
	"nodelet/controlplane/identity"
	"nodelet/controlplane/pki"
)

func bootstrapKubeconfigCommand() *cobra.Command {
	var dataDir, server string
	var ttl time.Duration
	c := &cobra.Command{
		Use:   "bootstrap-kubeconfig",
		Short: "Print a kubeconfig that nodes join with",
		Long: `Make a token and print a kubeconfig with it, for
  nodelet node --bootstrap-kubeconfig FILE --rotate-server-certificates
on other machines, or for a kubelet. The control plane must run. Whoever has the
file can add nodes until the token ends. To revoke it:
  nodelet kubectl -n kube-system delete secret bootstrap-token-ID
where ID is the part of the token before the dot.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkServer(server); err != nil {
				return err
			}
			if ttl < 0 {
				return fmt.Errorf("check --ttl %s: must not be negative", ttl)
			}
			ca, err := pki.Load(filepath.Join(dataDir, "controlplane", "pki"))
			if err != nil {
				return err
			}
			admin := filepath.Join(dataDir, "admin.kubeconfig")
			rest, err := clientcmd.BuildConfigFromFlags("", admin)
			if err != nil {
				return fmt.Errorf("read %s: %w", admin, err)
			}
			client, err := kubernetes.NewForConfig(rest)
			if err != nil {
				return fmt.Errorf("make client: %w", err)
			}
			kubeconfig, err := identity.Join(cmd.Context(), client,
				identity.JoinConfig{Server: server, Authority: ca.PEM(), Group: addons.GroupJoining, TTL: ttl}, time.Now())
			if err != nil {
				return err
			}
			_, err = os.Stdout.Write(kubeconfig)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data-dir", "/var/lib/nodelet", "data directory of the control plane")
	f.StringVar(&server, "server", "", "URL of the API server as the other nodes reach it")
	f.DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token works; 0 for ever")
	cobra.CheckErr(c.MarkFlagRequired("server"))
	return c
}

func checkServer(server string) error {
	if u, err := url.Parse(server); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("check --server %q: must look like https://10.0.0.1:6443", server)
	}
	return nil
}
