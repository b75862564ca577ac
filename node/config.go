package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"nodelet/proxy"
)

// Component is a part of the daemon that can be left out.
type Component string

// The components.
const (
	Agent Component = "agent"
	Proxy Component = "proxy"
	DNS   Component = "dns"
	CNI   Component = "cni"
)

// AllComponents is what runs by default.
var AllComponents = []Component{Agent, Proxy, DNS, CNI}

// Config is everything the daemon is told by flags. Values only.
type Config struct {
	Layout Layout
	// BinDir holds nodelet-cni and the shim.
	BinDir string

	NodeName string
	// NodeIPs holds at most one address per family, the primary first.
	NodeIPs    []netip.Addr
	Kubeconfig string
	// BootstrapKubeconfig has credentials that may ask for an identity; with it Kubeconfig is written.
	BootstrapKubeconfig string
	// InCluster: use the credentials of the pod this runs in. APIServer then
	// names the server by an address that works without a Service.
	InCluster  bool
	APIServer  string
	Components []Component

	// RuntimeEndpoint is a CRI socket; empty means the embedded containerd.
	RuntimeEndpoint string
	// PastRuntimes are such sockets that earlier starts were given.
	PastRuntimes []string
	// RegistryConfigDir is where the embedded containerd reads mirrors and
	// certificates of registries: one hosts.toml per registry.
	RegistryConfigDir string
	// CNIConfDir and CNIBinDir are where the runtime looks for networks and
	// plugins; empty means by custom of the runtime.
	CNIConfDir, CNIBinDir string
	// CgroupRoot is the cgroup below which kubepods is made; "/" by default.
	CgroupRoot string
	MaxPods    int
	Resources  Resources
	Kubelet    KubeletOptions
	Labels     map[string]string
	// Taints are written key=value:effect.
	Taints []string

	// ClusterCIDRs are the addresses of all pods, ServiceCIDRs those of services.
	ClusterCIDRs  []netip.Prefix
	ServiceCIDRs  []netip.Prefix
	ClusterDomain string
	ClusterDNS    []netip.Addr
	// ResolvConf is the host's resolver configuration.
	ResolvConf string
	DNS        DNSConfig

	// ProxyMode is one of proxy.Modes.
	ProxyMode string
	// ProxyOptions are what else the service proxy is told.
	ProxyOptions ProxyOptions

	KubeletPort uint16
	// HealthzAddr, ProxyHealthAddr and MetricsAddr as on upstream: 10248, 10256, 10249.
	HealthzAddr     netip.AddrPort
	ProxyHealthAddr netip.AddrPort
	MetricsAddr     netip.AddrPort
	// Level, if not nil, is how much is logged; it may change at any time.
	Level *slog.LevelVar `json:"-"`
	// Flags are the values of the command line's flags by their names, shown on /flagz; files have been read into them.
	Flags map[string]string `json:"-"`
}

// Defaults gives the configuration before any flag.
func Defaults() Config {
	return Config{
		Layout:          Layout{Data: DefaultDataDir, Run: DefaultRunDir},
		Components:      slices.Clone(AllComponents),
		CgroupRoot:      "/",
		MaxPods:         110,
		ClusterCIDRs:    []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		ServiceCIDRs:    []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
		ClusterDomain:   "cluster.local",
		ClusterDNS:      []netip.Addr{netip.MustParseAddr("10.96.0.10")},
		ResolvConf:      "/etc/resolv.conf",
		ProxyMode:       proxy.Auto,
		DNS:             DefaultDNSConfig(),
		ProxyOptions:    DefaultProxyOptions(),
		KubeletPort:     10250,
		HealthzAddr:     netip.MustParseAddrPort("127.0.0.1:10248"),
		ProxyHealthAddr: netip.MustParseAddrPort("0.0.0.0:10256"),
		MetricsAddr:     netip.MustParseAddrPort("127.0.0.1:10249"),
	}
}

// Has tells whether a component runs.
func (c *Config) Has(p Component) bool { return slices.Contains(c.Components, p) }

// Complete fills in what depends on the machine: host name, program
// directory, absolute paths. It does not look at the network.
func (c *Config) Complete() error {
	if c.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("read host name: %w (pass --hostname-override)", err)
		}
		c.NodeName = strings.ToLower(strings.TrimSpace(host))
	}
	if c.BinDir == "" {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find own program file: %w (pass --bin-dir)", err)
		}
		c.BinDir = filepath.Dir(exe)
	}
	paths := []*string{&c.Layout.Data, &c.Layout.Run, &c.BinDir}
	if c.Kubelet.StaticPodPath != "" {
		paths = append(paths, &c.Kubelet.StaticPodPath)
	}
	for _, p := range paths {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("make path %s absolute: %w", *p, err)
		}
		*p = abs
	}
	if c.Kubeconfig == "" {
		c.Kubeconfig = c.Layout.NodeKubeconfig()
	}
	return nil
}

// Validate names everything that is wrong at once, each with the flag that mends it.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if e := validation.IsDNS1123Subdomain(c.NodeName); len(e) > 0 {
		bad("node name %q: %s (pass another with --hostname-override)", c.NodeName, e[0])
	}
	if e := validation.IsDNS1123Subdomain(c.ClusterDomain); len(e) > 0 {
		bad("--cluster-domain %q: %s", c.ClusterDomain, e[0])
	}
	for _, p := range c.Components {
		if !slices.Contains(AllComponents, p) {
			bad("--components: %q is none of agent, proxy, dns, cni", p)
		}
	}
	if len(c.Components) == 0 {
		bad("--components is empty: name at least one of agent, proxy, dns, cni")
	}
	for _, a := range c.NodeIPs {
		if !a.IsValid() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
			bad("--node-ip %s: cannot be reached from pods; use an address of a network interface", a)
		}
	}
	if err := c.Kubelet.Shutdown.Check(); err != nil {
		return err
	}
	if err := c.Resources.Validate(); err != nil {
		bad("%w", err)
	}
	if err := c.Kubelet.check(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, checkLabels(c.Labels)...)
	if c.RuntimeEndpoint != "" && !strings.HasPrefix(c.RuntimeEndpoint, "unix://") {
		bad("--container-runtime-endpoint %q: must start with unix://, e.g. unix:///run/containerd/containerd.sock", c.RuntimeEndpoint)
	}
	if !filepath.IsAbs(c.CgroupRoot) {
		bad("--cgroup-root %q: must start with /", c.CgroupRoot)
	}
	if err := proxy.CheckMode(c.ProxyMode); err != nil {
		bad("--proxy-mode: %w", err)
	}
	if _, err := c.dns(); err != nil {
		errs = append(errs, err)
	}
	if err := c.ProxyOptions.check(); err != nil {
		errs = append(errs, err)
	}
	if c.InCluster && c.APIServer == "" {
		bad("--in-cluster needs --api-server: the API server by an address that works without a Service, e.g. https://192.168.1.10:6443")
	}
	if c.MaxPods < 1 {
		bad("--max-pods %d: must be at least 1", c.MaxPods)
	}
	for _, a := range c.ClusterDNS {
		if !slices.ContainsFunc(c.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(a) }) && !a.IsLinkLocalUnicast() {
			bad("--cluster-dns %s: is in none of the service ranges %v", a, c.ServiceCIDRs)
		}
	}
	return errors.Join(errs...)
}
