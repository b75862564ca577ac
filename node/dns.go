package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"nodelet/agent/podplan"
	"nodelet/dns"
	"nodelet/dns/corefile"
	"nodelet/dns/zone"
	"nodelet/internal/control"
	"nodelet/internal/fdstore"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// DNSConfig is what the daemon is told about DNS by flags of their own.
type DNSConfig struct {
	// Listen are addresses beside ClusterDNS, such as the link-local one of a node-local cache.
	Listen []netip.Addr
	// Upstreams answer outside names in place of the host's resolvers; see corefile.ParseUpstream.
	Upstreams []string
	// Corefile is namespace/name of the ConfigMap with CoreDNS's configuration; empty: none is read.
	Corefile string
	// LogEvery logs one of so many queries; 0: none.
	LogEvery uint64
	// PodRecords is disabled, insecure or verified.
	PodRecords string
	// XDP lets the kernel answer names of the cluster; see package dns/xdp.
	XDP bool
}

// DefaultDNSConfig is what holds without flags.
func DefaultDNSConfig() DNSConfig {
	return DNSConfig{PodRecords: zone.PodsInsecure.String(), Corefile: "kube-system/coredns"}
}

func (n *Node) buildDNS() error {
	c, err := n.cfg.dns()
	if err != nil {
		return err
	}
	f, err := dns.New(c, dns.Deps{Store: n.store, Log: n.deps.Log, Holder: fdstore.Open()})
	if err != nil {
		return err
	}
	n.dns = f
	n.watchStatus("cluster DNS", f.Health)
	return nil
}

// dnsAddrs are all addresses at which names are answered.
func (c *Config) dnsAddrs() []netip.Addr { return slices.Concat(c.ClusterDNS, c.DNS.Listen) }

func (c *Config) dns() (dns.Config, error) {
	d := dns.DefaultConfig(c.ClusterDomain, c.dnsAddrs()...)
	d.ResolvConf = c.ResolvConf
	if text, err := os.ReadFile(c.ResolvConf); err == nil {
		d.HostSearch = podplan.ParseResolvConf(string(text)).Searches
	}
	d.LogEvery = c.DNS.LogEvery
	d.XDP = c.DNS.XDP
	if c.DNS.Corefile != "" {
		d.Corefile = model.ParseKey(c.DNS.Corefile)
	}
	if c.Has(Proxy) {
		d.RoutedBy = store.Proxy
	}
	for _, text := range c.DNS.Upstreams {
		u, err := corefile.ParseUpstream(text)
		if err != nil {
			return d, fmt.Errorf("--upstream: %w", err)
		}
		d.Upstreams = append(d.Upstreams, u)
	}
	var err error
	if d.Pods, err = zone.ParsePodMode(c.DNS.PodRecords); err != nil {
		return d, fmt.Errorf("--dns-pod-records: %w", err)
	}
	return d, nil
}

// alwaysRead are the configuration objects that are watched whatever the pods refer to.
func (c *Config) alwaysRead() []model.ConfigKey {
	if !c.Has(DNS) || c.DNS.Corefile == "" {
		return nil
	}
	return []model.ConfigKey{{Kind: model.ConfigMap, Key: model.ParseKey(c.DNS.Corefile)}}
}

// answerReady says whether cluster names are answered, as CoreDNS's ready plugin does.
func (n *Node) answerReady(w http.ResponseWriter, _ *http.Request) {
	if n.dns != nil {
		if err := n.dns.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	_, _ = fmt.Fprint(w, "OK")
}

// dnsWhy explains a lookup as a pod of this node makes it.
func (n *Node) dnsWhy(_ context.Context, q control.DNSQuestion) (any, error) {
	if n.dns == nil {
		return nil, errors.New("this daemon runs without DNS: see --components")
	}
	question := dns.Question{Name: q.Name, Client: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	var err error
	if question.Type, err = dns.ParseType(q.Type); err != nil {
		return nil, err
	}
	if q.Pod == "" {
		question.Name = strings.TrimSuffix(q.Name, ".") + "."
		return n.dns.Explain(question)
	}
	for _, pod := range n.store.Snapshot().Pods.All() {
		if pod.Namespace+"/"+pod.Name != q.Pod {
			continue
		}
		text, _ := os.ReadFile(n.cfg.ResolvConf) // without it there is no search path of the host
		conf := podplan.ResolvConf(pod, &podplan.Settings{ClusterDNS: n.cfg.ClusterDNS, ClusterDomain: n.cfg.ClusterDomain}, podplan.ParseResolvConf(string(text)))
		question.Search = conf.Searches
		for _, o := range conf.Options {
			if ndots, ok := strings.CutPrefix(o, "ndots:"); ok {
				question.Ndots, _ = strconv.Atoi(ndots)
			}
		}
		if a, err := netip.ParseAddr(pod.Status.PodIP); err == nil {
			question.Client = a.Unmap()
		}
		return n.dns.Explain(question)
	}
	return nil, fmt.Errorf("no pod %s on this node: give namespace/name of one that runs here, or leave it out", q.Pod)
}
