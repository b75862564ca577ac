package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/internal/kube"
	"nodelet/internal/model"
	"nodelet/proxy"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/ipvs"
	"nodelet/proxy/lb"
	"nodelet/proxy/maglev"
)

// ProxyOptions are settings of the service proxy, with kube-proxy's meaning.
type ProxyOptions struct {
	// NodePortAddresses are ranges and the keywords NodePortsPrimary, NodePortsLocalhost and NodePortsAll;
	// empty is all addresses but loopback.
	NodePortAddresses []string
	// ExternalIPRanges limits the external IPs of Services; empty is no limit.
	ExternalIPRanges   []netip.Prefix
	MasqueradeAll      bool
	MasqueradeBit      int
	LocalhostNodePorts bool
	// DetectLocalMode is one of lb.LocalModes; the others name the links of the
	// modes BridgeInterface and InterfaceNamePrefix.
	DetectLocalMode        string
	PodBridgeInterface     string
	PodInterfaceNamePrefix string
	Conntrack              proxy.Conntrack
	// ServiceMetrics is how many Service ports have metrics of their own, in modes that count; 0 for none.
	ServiceMetrics int
	// IPVS are those of mode ipvs.
	IPVS ipvs.Config
	// Algorithm is model.AlgorithmRandom or model.AlgorithmMaglev, MaglevSize one of maglev.Sizes; for mode ebpf.
	Algorithm  string
	MaglevSize int
	// EBPF are those of mode ebpf.
	EBPF ebpf.Config
	// Profiling serves /debug/pprof beside the metrics.
	Profiling bool
}

// Keywords of NodePortAddresses, as kube-proxy v1.37 has them.
const (
	// NodePortsPrimary stands for the node's own addresses (--node-ip).
	NodePortsPrimary = "primary"
	// NodePortsLocalhost stands for the loopback addresses, which serve node ports only with LocalhostNodePorts.
	NodePortsLocalhost = "localhost"
	NodePortsAll       = "all"
)

// DefaultProxyOptions is kube-proxy's, but for node ports on localhost, which
// are a risk and have to be asked for.
func DefaultProxyOptions() ProxyOptions {
	return ProxyOptions{MasqueradeBit: 14, Algorithm: model.AlgorithmRandom, MaglevSize: maglev.DefaultSize, Conntrack: proxy.DefaultConntrack()}
}

func (o *ProxyOptions) check() error {
	if o.MasqueradeBit < 0 || o.MasqueradeBit > 31 {
		return fmt.Errorf("--iptables-masquerade-bit %d: must be 0 to 31", o.MasqueradeBit)
	}
	if _, err := o.localTraffic(); err != nil {
		return err
	}
	if s := o.IPVS.Scheduler; strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") != "" || len(s) > 15 {
		return fmt.Errorf("--ipvs-scheduler %q: must be a name as ipvsadm takes it: rr, lc, sh, mh", s)
	}
	if o.ServiceMetrics < 0 {
		return fmt.Errorf("--proxy-service-metrics %d: must not be negative", o.ServiceMetrics)
	}
	if a := o.Algorithm; a != model.AlgorithmRandom && a != model.AlgorithmMaglev {
		return fmt.Errorf("--proxy-bpf-algorithm %q: must be %s or %s", a, model.AlgorithmRandom, model.AlgorithmMaglev)
	}
	if !slices.Contains(maglev.Sizes(), o.MaglevSize) {
		return fmt.Errorf("--proxy-bpf-maglev-table-size %d: must be one of %v", o.MaglevSize, maglev.Sizes())
	}
	if err := ebpf.CheckMapSizes(o.EBPF.MapSizes); err != nil {
		return fmt.Errorf("--proxy-bpf-map-size: %w", err)
	}
	if err := ebpf.CheckXDP(o.EBPF.XDP); err != nil {
		return fmt.Errorf("--proxy-bpf-xdp: %w", err)
	}
	if dir := o.EBPF.Cgroup; dir != "" && !filepath.IsAbs(dir) {
		return fmt.Errorf("--proxy-cgroup %q: must be a path that starts with /, such as /sys/fs/cgroup/machine.slice", dir)
	}
	if t := o.IPVS.Timeouts; t.TCP < 0 || t.TCPFin < 0 || t.UDP < 0 {
		return errors.New("--ipvs-tcp-timeout, --ipvs-tcpfin-timeout, --ipvs-udp-timeout: must not be negative")
	}
	for _, t := range o.NodePortAddresses {
		if _, err := netip.ParsePrefix(t); err != nil && !slices.Contains([]string{NodePortsPrimary, NodePortsLocalhost, NodePortsAll}, t) {
			return fmt.Errorf("--nodeport-addresses %q: must be a range such as 192.168.0.0/16, or %s, %s or %s", t, NodePortsPrimary, NodePortsLocalhost, NodePortsAll)
		}
	}
	return nil
}

// nodePorts gives the ranges that node ports are limited to.
func (c *Config) nodePorts() (out []netip.Prefix) {
	for _, t := range c.ProxyOptions.NodePortAddresses {
		switch t {
		case NodePortsPrimary:
			for _, a := range c.NodeIPs {
				out = append(out, netip.PrefixFrom(a, a.BitLen()))
			}
		case NodePortsLocalhost:
			out = append(out, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		case NodePortsAll:
			out = append(out, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
		default:
			if p, err := netip.ParsePrefix(t); err == nil { // checked by Validate
				out = append(out, p.Masked())
			}
		}
	}
	return out
}

// localTraffic says how local pods are told.
func (o *ProxyOptions) localTraffic() (local lb.LocalTraffic, err error) {
	if local.Mode, err = lb.ParseLocalMode(o.DetectLocalMode); err != nil {
		return local, fmt.Errorf("--detect-local-mode: %w", err)
	}
	flag := ""
	switch local.Mode {
	case lb.ByBridge:
		local.Link, flag = o.PodBridgeInterface, "--pod-bridge-interface: "
	case lb.ByLinkPrefix:
		local.Link, flag = o.PodInterfaceNamePrefix, "--pod-interface-name-prefix: "
	}
	if err := local.Check(); err != nil {
		return local, fmt.Errorf("%s%w", flag, err)
	}
	return local, nil
}

func (c *Config) proxy() proxy.Config {
	o := c.ProxyOptions
	var answered []netip.Addr
	if c.Has(DNS) {
		answered = c.dnsAddrs()
	}
	local, _ := o.localTraffic() // checked by Validate
	return proxy.Config{
		Local:    local,
		NodeName: c.NodeName, Mode: c.proxyMode(), PodCIDRs: c.ClusterCIDRs, HealthzAddr: c.ProxyHealthAddr.String(),
		MasqueradeAll: o.MasqueradeAll, MasqueradeBit: &o.MasqueradeBit, LocalhostNodePorts: o.LocalhostNodePorts,
		NodePortAddresses: c.nodePorts(), ExternalIPRanges: o.ExternalIPRanges, Conntrack: o.Conntrack, IPVS: o.IPVS, EBPF: o.EBPF, Answered: answered,
		Maglev: o.Algorithm == model.AlgorithmMaglev, MaglevSize: o.MaglevSize,
	}
}

func (n *Node) buildProxy() error {
	cfg := n.cfg.proxy()
	deps := proxy.Deps{Store: n.store, Log: n.deps.Log, Metrics: n.proxyMetrics(), Event: n.proxyEvents()}
	f, err := proxy.New(context.Background(), cfg, deps)
	if err != nil && cfg.Mode != n.cfg.ProxyMode {
		// A node that was switched by hand must not stay down because its kernel is another one now.
		n.deps.Log.Warn("the proxy mode that was switched to cannot be used any more, so --proxy-mode decides", "mode", cfg.Mode, "err", err)
		cfg.Mode = n.cfg.ProxyMode
		f, err = proxy.New(context.Background(), cfg, deps)
	}
	if err != nil {
		return err
	}
	n.proxy = f
	n.watchStatus("service proxy", f.Health)
	return nil
}

// proxyEvents writes the proxy's events; the recorder starts with the first.
func (n *Node) proxyEvents() func(model.Key, string, string) {
	recorder := sync.OnceValue(func() *kube.Events {
		return n.client.NewEvents(context.Background(), "kube-proxy", n.cfg.NodeName, n.cfg.Kubelet.eventRate())
	})
	return func(about model.Key, reason, message string) {
		ref := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: about.Namespace, Name: about.Name}
		if about.Name == "" {
			ref = corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.cfg.NodeName, UID: types.UID(n.cfg.NodeName)}
		}
		recorder().Event(ref, corev1.EventTypeWarning, reason, message)
	}
}
