package cni

import (
	"net/netip"
	"slices"

	"nodelet/cni/plugin"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// networkName is the name of the network in the runtime's configuration.
const networkName = "nodelet"

// host is what is seen of the host's own links: which addresses it has, in
// which networks, on links of which MTU.
type host struct {
	mtu       map[netip.Addr]int
	connected []netip.Prefix
}

// defaultMTU is what remains when none of the node's addresses is found on a link.
const defaultMTU = 1500

// network derives the plugin's configuration from the facts; ok is false as
// long as the node has no pod CIDR.
func (c Config) network(snap *store.Snapshot, h host) (cfg plugin.Config, ok bool) {
	self, found := snap.Nodes.Get(model.Key{Name: c.NodeName})
	if !found || len(self.PodCIDRs) == 0 {
		return plugin.Config{}, false
	}
	cfg = plugin.Config{Name: networkName, Subnets: onePerFamily(self.PodCIDRs), StateDir: c.StateDir, MTU: c.MTU}
	ips := c.NodeIPs
	if len(ips) == 0 {
		ips = self.InternalIPs
	}
	for _, v6 := range []bool{false, true} {
		if i := slices.IndexFunc(ips, func(a netip.Addr) bool { return a.Is6() == v6 }); i >= 0 {
			cfg.NodeIPs = append(cfg.NodeIPs, ips[i])
		}
	}
	if cfg.MTU == 0 {
		cfg.MTU = h.uplinkMTU(cfg.NodeIPs)
	}
	inside := append(slices.Clone(c.ClusterCIDRs), c.ServiceCIDRs...)
	for _, n := range snap.Nodes.All() {
		inside = append(inside, n.PodCIDRs...)
	}
	cfg.Inside = cover(inside)
	return cfg, true
}

// uplinkMTU is the smallest MTU of the links that carry the node's addresses.
func (h host) uplinkMTU(ips []netip.Addr) int {
	mtu := 0
	for _, ip := range ips {
		if m := h.mtu[ip]; m > 0 && (mtu == 0 || m < mtu) {
			mtu = m
		}
	}
	if mtu == 0 {
		return defaultMTU
	}
	return mtu
}

func onePerFamily(list []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }) {
			out = append(out, p.Masked())
		}
	}
	return out
}

// cover drops the prefixes that others contain, so that nodes that come and go
// inside the cluster's range change nothing; the order is fixed.
func cover(list []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	var out []netip.Prefix
	for _, p := range sorted {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Overlaps(p) }) {
			out = append(out, p.Masked())
		}
	}
	return out
}
