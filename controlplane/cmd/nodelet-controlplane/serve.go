package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodelet/controlplane/serve"
	"nodelet/controlplane/upstream"
)

// serveFlags are the values that need more than their flag type to be read.
type serveFlags struct {
	cfg                      serve.Config
	advertise, dns           string
	bind                     []string
	serviceCIDR, clusterCIDR string
	logLevel                 string
	readyFD                  int
}

func serveCommand() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane in the foreground",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			return runServe(cmd, cfg, f)
		},
	}
	f.add(c.Flags())
	cobra.CheckErr(c.MarkFlagRequired("advertise-address"))
	return c
}

func (f *serveFlags) add(fs *pflag.FlagSet) {
	hostname, _ := os.Hostname() // without one --node-name must be given, and check says so
	fs.StringVar(&f.cfg.DataDir, "data-dir", "/var/lib/nodelet", "where everything is kept")
	fs.StringVar(&f.cfg.NodeName, "node-name", hostname, "name of this machine's Node object")
	fs.StringVar(&f.advertise, "advertise-address", "", "address of this machine that nodes and pods reach")
	fs.StringSliceVar(&f.bind, "bind-address", nil, "addresses to listen on (default 127.0.0.1 and --advertise-address; 0.0.0.0 is all)")
	fs.Uint16Var(&f.cfg.Port, "secure-port", 6443, "port of the API server")
	fs.Uint16Var(&f.cfg.KubeletPort, "kubelet-port", 10250, "port of the kubelet API on nodes that do not report one")
	fs.StringSliceVar(&f.cfg.Names, "tls-san", nil, "further names and addresses for the API server's certificate")
	fs.StringVar(&f.serviceCIDR, "service-cidr", "10.96.0.0/12", "range of service addresses")
	fs.StringVar(&f.clusterCIDR, "cluster-cidr", "10.244.0.0/16", "range of pod addresses; each node gets a /24")
	fs.StringVar(&f.cfg.ClusterDomain, "cluster-domain", "cluster.local", "DNS domain of the cluster")
	fs.StringVar(&f.dns, "dns-service-ip", "10.96.0.10", "address of the cluster DNS")
	fs.StringSliceVar(&f.cfg.EtcdEndpoints, "etcd-endpoints", nil, "use this etcd instead of the embedded one (its certificates: --extra-apiserver-arg=--etcd-cafile=...)")
	fs.StringArrayVar(&f.cfg.ExtraAPIServerArgs, "extra-apiserver-arg", nil, "flag for upstream's kube-apiserver, --name=value; wins over ours")
	fs.StringArrayVar(&f.cfg.ExtraControllerManagerArgs, "extra-controller-manager-arg", nil, "flag for upstream's kube-controller-manager")
	fs.StringArrayVar(&f.cfg.ExtraSchedulerArgs, "extra-scheduler-arg", nil, "flag for upstream's kube-scheduler")
	fs.IntVar(&f.readyFD, "ready-fd", 0, "open file descriptor that gets \"keys\\n\" when the kubeconfigs are there and \"ready\\n\" when everything works")
	fs.StringVar(&f.cfg.PIDFile, "pid-file", "", "file for this process's id; removed at the end")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug (with upstream's own information), info, warn or error")
}

func (f *serveFlags) config() (serve.Config, error) {
	cfg := f.cfg
	var err error
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return cfg, fmt.Errorf("check --data-dir: %w", err)
	}
	if cfg.AdvertiseAddress, err = netip.ParseAddr(f.advertise); err != nil {
		return cfg, fmt.Errorf("check --advertise-address %q: is not an address", f.advertise)
	}
	if cfg.DNSAddress, err = netip.ParseAddr(f.dns); err != nil {
		return cfg, fmt.Errorf("check --dns-service-ip %q: is not an address", f.dns)
	}
	if cfg.ServiceCIDR, err = netip.ParsePrefix(f.serviceCIDR); err != nil {
		return cfg, fmt.Errorf("check --service-cidr %q: must look like 10.96.0.0/12", f.serviceCIDR)
	}
	if cfg.ClusterCIDR, err = netip.ParsePrefix(f.clusterCIDR); err != nil {
		return cfg, fmt.Errorf("check --cluster-cidr %q: must look like 10.244.0.0/16", f.clusterCIDR)
	}
	cfg.BindAddresses, err = parseAddresses("--bind-address", f.bind)
	return cfg, err
}

func runServe(cmd *cobra.Command, cfg serve.Config, f serveFlags) error {
	log := newLogger(cmd.ErrOrStderr(), f.logLevel)
	if log == nil {
		return fmt.Errorf("check --log-level %q: must be debug, info, warn or error", f.logLevel)
	}
	deps := serve.Deps{Log: log, Now: time.Now}
	if f.readyFD != 0 {
		deps.Ready = os.NewFile(uintptr(f.readyFD), "ready-fd")
		if _, err := deps.Ready.Stat(); err != nil {
			return fmt.Errorf("check --ready-fd %d: %w", f.readyFD, err)
		}
	}
	upstream.RouteLogs(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return serve.Run(ctx, cfg, deps)
}

// newLogger returns nil for a level that does not exist.
func newLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l}))
}
