package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"nodelet/controlplane/identity"
	"nodelet/controlplane/pki"
)

func nodeKubeconfigCommand() *cobra.Command {
	var dataDir, name, server, out string
	var ips []string
	c := &cobra.Command{
		Use:   "node-kubeconfig",
		Short: "Write the files another node needs to join (offline)",
		Long: `Write node.kubeconfig, pki/kubelet-server.{crt,key} and pki/kubelet-client-ca.crt
for another node into --out-dir, signed by the authority in --data-dir. The
control plane need not run. Files that still fit are kept.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addrs, err := parseAddresses("--node-ip", ips)
			if err != nil {
				return err
			}
			if err := checkServer(server); err != nil {
				return err
			}
			ca, err := pki.Load(filepath.Join(dataDir, "controlplane", "pki"))
			if err != nil {
				return err
			}
			signer := identity.Signer{CA: ca, Now: time.Now(), Log: newLogger(cmd.ErrOrStderr(), "info")}
			return signer.Node(identity.NodeConfig{Dir: out, Name: name, Server: server, Addresses: addrs})
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data-dir", "/var/lib/nodelet", "data directory of the control plane")
	f.StringVar(&name, "node-name", "", "name of the other node")
	f.StringVar(&server, "server", "", "URL of the API server as the other node reaches it")
	f.StringSliceVar(&ips, "node-ip", nil, "addresses of the other node")
	f.StringVar(&out, "out-dir", "", "where the files go")
	for _, required := range []string{"node-name", "server", "node-ip", "out-dir"} {
		cobra.CheckErr(c.MarkFlagRequired(required))
	}
	return c
}

func parseAddresses(flag string, values []string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, v := range values {
		a, err := netip.ParseAddr(v)
		if err != nil {
			return nil, fmt.Errorf("check %s %q: is not an address", flag, v)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}
