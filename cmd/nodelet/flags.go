package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodelet/internal/zpages"
	"nodelet/node"
)

// placeFlags are the directories that tell one nodelet from another on the same machine.
type placeFlags struct {
	data, run string
}

func (f *placeFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.data, "data-dir", node.DefaultDataDir, "where everything is kept")
	fs.StringVar(&f.run, "run-dir", node.DefaultRunDir, "sockets, pid files and mounts of a running nodelet")
}

func (f *placeFlags) layout() (node.Layout, error) {
	c := node.Config{NodeName: "unused", Layout: node.Layout{Data: f.data, Run: f.run}}
	err := c.Complete()
	return c.Layout, err
}

// nodeFlags are those of the node daemon, shared by `node` and `up`.
type nodeFlags struct {
	cfg        node.Config
	place      placeFlags
	components []string
	log        logFlags
	files      configFiles
	flags      *pflag.FlagSet
}

func (f *nodeFlags) add(fs *pflag.FlagSet) {
	f.cfg = node.Defaults()
	c := &f.cfg
	f.flags = fs
	f.place.add(fs)
	f.files.add(fs)
	fs.StringVar(&c.NodeName, "hostname-override", "", "name of this node (default: the host name)")
	addrsVar(fs, &c.NodeIPs, "node-ip", "address of this node, one per family (default: that of the default route)")
	fs.StringSliceVar(&f.components, "components", []string{"agent", "proxy", "dns", "cni"}, "what to run")
	fs.StringVar(&c.RuntimeEndpoint, "container-runtime-endpoint", "", "CRI socket, e.g. unix:///run/containerd/containerd.sock (default: the embedded containerd)")
	fs.StringVar(&c.RegistryConfigDir, "registry-config-dir", "", "where the embedded containerd reads hosts.toml of registries (default: /etc/containerd/certs.d)")
	fs.StringVar(&c.CNIConfDir, "cni-conf-dir", "", "where the container runtime reads networks (default for a foreign runtime: /etc/cni/net.d)")
	fs.StringVar(&c.CNIBinDir, "cni-bin-dir", "", "where the container runtime finds CNI plugins; nodelet-cni is installed there (default for a foreign runtime: /opt/cni/bin)")
	fs.StringVar(&c.CgroupRoot, "cgroup-root", c.CgroupRoot, "cgroup below which the pods' cgroups are made")
	fs.StringVar(&c.Kubelet.CgroupDriver, "cgroup-driver", "", "how the pods' cgroups are made, cgroupfs or systemd (default: what the container runtime says; cgroupfs for the embedded one)")
	fs.BoolVar(&c.Kubelet.StaticCgroups, "static-cgroups", false, "leave the mount option favordynmods of the machine's cgroup2 as it is; containers then start more slowly")
	fs.IntVar(&c.MaxPods, "max-pods", c.MaxPods, "most pods this node takes")
	fs.StringVar(&c.Kubelet.StaticPodPath, "pod-manifest-path", "", "directory of static pod manifests, or one manifest")
	fs.StringVar(&c.Kubelet.StaticPodURL, "manifest-url", "", "URL that answers with static pod manifests")
	_ = fs.SetAnnotation("manifest-url", zpages.Classified, []string{"true"}) // a URL may have a password
	fs.StringSliceVar(&c.Kubelet.AllowedUnsafeSysctls, "allowed-unsafe-sysctls", nil, "sysctls that pods may set beside the safe ones; kernel.msg* stands for all that begin so")
	fs.StringToStringVar(&c.Labels, "node-labels", nil, "labels of the node at registration")
	fs.StringVar(&c.Kubelet.ProviderID, "provider-id", "", "identity of this machine with a cloud provider, spec.providerID of the node")
	fs.StringVar(&c.Kubelet.CloudProvider, "cloud-provider", "", "external: a cloud controller manager initialises this node and sets its addresses")
	fs.StringSliceVar(&c.Taints, "register-with-taints", nil, "taints of the node at registration, key=value:effect")
	prefixesVar(fs, &c.ClusterCIDRs, "cluster-cidr", "range of pod addresses")
	prefixesVar(fs, &c.ServiceCIDRs, "service-cidr", "range of service addresses")
	fs.StringVar(&c.ClusterDomain, "cluster-domain", c.ClusterDomain, "DNS domain of the cluster")
	addrsVar(fs, &c.ClusterDNS, "cluster-dns", "address of the cluster DNS; served on this node")
	addDNSFlags(fs, &c.DNS)
	fs.StringVar(&c.ResolvConf, "resolv-conf", c.ResolvConf, "resolver configuration of the host")
	addProxyFlags(fs, c)
	addResourceFlags(fs, &c.Resources)
	fs.Uint16Var(&c.KubeletPort, "kubelet-port", c.KubeletPort, "port of the kubelet API")
	fs.StringVar(&c.Kubelet.CertDir, "cert-dir", "", "where the certificates are kept that this node asks for (default: <data-dir>/pki)")
	fs.BoolVar(&c.Kubelet.ServerTLSBootstrap, "rotate-server-certificates", false, "ask the API server for the kubelet API's certificate; somebody must approve the requests")
	addrPortVar(fs, &c.HealthzAddr, "healthz-address", "where the node's /healthz answers")
	addrPortVar(fs, &c.ProxyHealthAddr, "proxy-healthz-address", "where the proxy's /healthz and /livez answer")
	addrPortVar(fs, &c.MetricsAddr, "metrics-address", "where the proxy's and the DNS server's /metrics answer")
	fs.StringVar(&c.BinDir, "bin-dir", "", "directory of nodelet-cni and containerd-shim-runc-v2 (default: that of this program)")
	f.log.add(fs)
	c.Level = &f.log.level
}

// config checks the flags and completes them from the machine.
func (f *nodeFlags) config() (node.Config, error) {
	if err := f.files.apply(f.flags, &f.cfg); err != nil {
		return f.cfg, err
	}
	c := f.cfg
	c.Flags = zpages.Flags(f.flags)
	c.Layout = node.Layout{Data: f.place.data, Run: f.place.run}
	c.Components = nil
	for _, p := range f.components {
		c.Components = append(c.Components, node.Component(strings.TrimSpace(p)))
	}
	if err := c.Complete(); err != nil {
		return c, err
	}
	if err := c.DetectNodeIP(); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// listValue is a comma-separated flag; the first use replaces the default.
type listValue[T any] struct {
	to    *[]T
	parse func(string) (T, error)
	kind  string
	set   bool
}

func (v *listValue[T]) String() string {
	if v.to == nil {
		return ""
	}
	texts := make([]string, 0, len(*v.to))
	for _, x := range *v.to {
		texts = append(texts, fmt.Sprint(x))
	}
	return strings.Join(texts, ",")
}

func (v *listValue[T]) Type() string { return v.kind }

func (v *listValue[T]) Set(s string) error {
	if !v.set {
		*v.to, v.set = nil, true
	}
	for part := range strings.SplitSeq(s, ",") {
		x, err := v.parse(strings.TrimSpace(part))
		if err != nil {
			return err
		}
		*v.to = append(*v.to, x)
	}
	return nil
}

func addrsVar(fs *pflag.FlagSet, to *[]netip.Addr, name, usage string) {
	fs.Var(&listValue[netip.Addr]{to: to, parse: netip.ParseAddr, kind: "addresses"}, name, usage)
}

func prefixesVar(fs *pflag.FlagSet, to *[]netip.Prefix, name, usage string) {
	fs.Var(&listValue[netip.Prefix]{to: to, parse: netip.ParsePrefix, kind: "ranges"}, name, usage)
}

func addrPortVar(fs *pflag.FlagSet, to *netip.AddrPort, name, usage string) {
	fs.TextVar(to, name, *to, usage)
}

// outputFlag is -o of every command that reads.
func outputFlag(c *cobra.Command, to *string) {
	c.Flags().StringVarP(to, "output", "o", "", "json, or nothing for text")
}
