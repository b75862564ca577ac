package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	proxyv1alpha1 "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"nodelet/proxy"
)

// kubeProxyConfiguration is what the proxy was told, as kube-proxy would write it; mode is the one in use.
func (c *Config) kubeProxyConfiguration(mode string) *proxyv1alpha1.KubeProxyConfiguration {
	o := &c.ProxyOptions
	bit := int32(o.MasqueradeBit) //nolint:gosec // 0 to 31, checked
	cidrs := make([]string, 0, len(c.ClusterCIDRs))
	for _, p := range c.ClusterCIDRs {
		cidrs = append(cidrs, p.String())
	}
	local, _ := o.localTraffic() // checked by Validate
	out := &proxyv1alpha1.KubeProxyConfiguration{
		TypeMeta:            metav1.TypeMeta{APIVersion: "kubeproxy.config.k8s.io/v1alpha1", Kind: "KubeProxyConfiguration"},
		HostnameOverride:    c.NodeName,
		HealthzBindAddress:  c.ProxyHealthAddr.String(),
		MetricsBindAddress:  c.MetricsAddr.String(),
		BindAddressHardFail: true,
		EnableProfiling:     o.Profiling,
		Mode:                proxyv1alpha1.ProxyMode(mode),
		IPTables:            proxyv1alpha1.KubeProxyIPTablesConfiguration{MasqueradeBit: &bit, MasqueradeAll: o.MasqueradeAll, LocalhostNodePorts: &o.LocalhostNodePorts},
		NFTables:            proxyv1alpha1.KubeProxyNFTablesConfiguration{MasqueradeBit: &bit, MasqueradeAll: o.MasqueradeAll},
		IPVS: proxyv1alpha1.KubeProxyIPVSConfiguration{
			Scheduler: o.IPVS.Scheduler, StrictARP: o.IPVS.StrictARP,
			TCPTimeout: seconds(o.IPVS.Timeouts.TCP), TCPFinTimeout: seconds(o.IPVS.Timeouts.TCPFin), UDPTimeout: seconds(o.IPVS.Timeouts.UDP),
		},
		DetectLocalMode:   proxyv1alpha1.LocalMode(local.Mode.String()),
		DetectLocal:       proxyv1alpha1.DetectLocalConfiguration{BridgeInterface: o.PodBridgeInterface, InterfaceNamePrefix: o.PodInterfaceNamePrefix},
		ClusterCIDR:       strings.Join(cidrs, ","),
		NodePortAddresses: o.NodePortAddresses,
		Conntrack:         o.conntrackConfiguration(),
	}
	if len(c.NodeIPs) > 0 {
		out.BindAddress = "0.0.0.0"
	}
	return out
}

func (o *ProxyOptions) conntrackConfiguration() proxyv1alpha1.KubeProxyConntrackConfiguration {
	ct := o.Conntrack
	perCore, least := int32(ct.MaxPerCore), int32(ct.Min) //nolint:gosec // numbers of connections
	established, closeWait := seconds(ct.TCPEstablished), seconds(ct.TCPCloseWait)
	return proxyv1alpha1.KubeProxyConntrackConfiguration{
		MaxPerCore: &perCore, Min: &least, TCPEstablishedTimeout: &established, TCPCloseWaitTimeout: &closeWait,
		TCPBeLiberal: ct.TCPBeLiberal, UDPTimeout: seconds(ct.UDP), UDPStreamTimeout: seconds(ct.UDPStream),
	}
}

func seconds(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

// WriteProxyConfig writes the proxy's settings to a new file, as a
// KubeProxyConfiguration that --proxy-config and kube-proxy read. A file that
// is there is replaced whole or, when something is in the way, not at all.
func (c *Config) WriteProxyConfig(path string) error {
	mode := c.ProxyMode
	if mode == proxy.Auto || mode == proxy.EBPF { // kube-proxy has neither: the reader's default
		mode = ""
	}
	out := c.kubeProxyConfiguration(mode)
	out.BindAddress = "0.0.0.0"
	if len(c.NodeIPs) > 0 && c.NodeIPs[0].Is6() {
		out.BindAddress = "::"
	}
	text, err := yaml.Marshal(out)
	if err != nil {
		return fmt.Errorf("write the proxy's settings as YAML: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".proxy-config-")
	if err != nil {
		return fmt.Errorf("write the proxy's settings (--write-config-to): %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the proxy's settings (--write-config-to): %w", err), os.Remove(f.Name()))
	}
	return nil
}
