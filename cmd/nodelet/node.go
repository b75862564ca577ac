package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"nodelet/node"
	"nodelet/node/preflight"
)

func nodeCommand() *cobra.Command {
	var f nodeFlags
	c := &cobra.Command{
		Use:   "node",
		Short: "Run the node daemon against any API server, in the foreground",
		Long: "Runs the node daemon against the API server that --kubeconfig names. Rules, addresses and containers stay\n" +
			"when it ends, so that it can be restarted or replaced at any time; nodelet reset removes them.",
		Args: cobra.NoArgs,
	}
	f.add(c.Flags())
	var proxyConfig string
	c.Flags().StringVar(&proxyConfig, "write-config-to", "", "write the service proxy's settings, from defaults, --proxy-config and flags, to this file as a KubeProxyConfiguration, and exit")
	c.Flags().StringVar(&f.cfg.Kubeconfig, "kubeconfig", "", "credentials and address of the API server (default: <data-dir>/node.kubeconfig)")
	c.Flags().StringVar(&f.cfg.BootstrapKubeconfig, "bootstrap-kubeconfig", "", "credentials that may ask for an identity of this node; --kubeconfig is then written")
	c.Flags().BoolVar(&f.cfg.InCluster, "in-cluster", false, "use the service account of the pod this runs in")
	c.Flags().StringVar(&f.cfg.APIServer, "api-server", "", "with --in-cluster: the API server by an address that works without a Service")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := f.config()
		if err != nil {
			return err
		}
		log, err := f.log.logger(os.Stderr)
		if err != nil {
			return err
		}
		f.files.report(log)
		if proxyConfig != "" {
			return cfg.WriteProxyConfig(proxyConfig)
		}
		release, err := takeLock(cfg)
		if err != nil {
			return err
		}
		defer release()
		if err := preflight.Check(nodeChecks(cfg)); err != nil {
			return fmt.Errorf("this machine is not ready:\n%w", err)
		}
		if err := node.Bootstrap(cmd.Context(), &cfg, log); err != nil {
			return err
		}
		n, err := node.New(cfg, node.Deps{Log: log, Step: func(format string, args ...any) { log.Info(fmt.Sprintf(format, args...)) }})
		if err != nil {
			return err
		}
		return n.Run(cmd.Context())
	}
	return c
}

// nodeChecks are the needs of the node daemon by its components.
func nodeChecks(c node.Config) preflight.Config {
	p := preflight.Config{DataDir: c.Layout.Data, VersionFile: c.Layout.Version(), Programs: map[string]string{}, Files: map[string]string{}}
	if c.Has(node.Agent) {
		p.Ports = append(p.Ports,
			preflight.Port{Number: c.KubeletPort, Use: "the kubelet API", Flag: "--kubelet-port"},
			preflight.Port{Number: c.HealthzAddr.Port(), Use: "the node's health", Flag: "--healthz-address"})
		if c.RuntimeEndpoint == "" {
			p.Programs["runc"] = "runc"
			p.Files[c.BinDir+"/containerd-shim-runc-v2"] = "run make build, or name its directory with --bin-dir"
		}
	}
	if c.Has(node.CNI) {
		p.Files[c.BinDir+"/nodelet-cni"] = "run make build, or name its directory with --bin-dir"
	}
	if c.Has(node.Proxy) {
		p.Ports = append(p.Ports, preflight.Port{Number: c.ProxyHealthAddr.Port(), Use: "the proxy's health", Flag: "--proxy-healthz-address"})
	}
	p.Ports = append(p.Ports, preflight.Port{Number: c.MetricsAddr.Port(), Use: "metrics", Flag: "--metrics-address"})
	return p
}
