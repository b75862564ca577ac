package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// LocalMode is how the traffic of local pods is told from all other:
// detectLocalMode of KubeProxyConfiguration. Local traffic to a ClusterIP is
// not masqueraded, and for local pods the external traffic policy does not count.
type LocalMode uint8

// The modes. The first two look at the source address, the others at the link
// that a packet comes in by.
const (
	// ByClusterCIDR: the source is inside Config.PodCIDRs.
	ByClusterCIDR LocalMode = iota
	// ByNodeCIDR: the source is inside the node's own spec.podCIDRs.
	ByNodeCIDR
	// ByBridge: it comes in by the link of that name.
	ByBridge
	// ByLinkPrefix: it comes in by a link whose name begins so.
	ByLinkPrefix
)

var localModes = [...]string{"ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"}

// LocalModes names the modes as KubeProxyConfiguration does.
func LocalModes() []string { return localModes[:] }

// String names the mode.
func (m LocalMode) String() string { return localModes[m] }

// ParseLocalMode reads a mode's name; empty is ClusterCIDR, as in kube-proxy.
func ParseLocalMode(name string) (LocalMode, error) {
	if name == "" {
		return ByClusterCIDR, nil
	}
	at := slices.Index(localModes[:], name)
	if at < 0 {
		return 0, fmt.Errorf("%q is no way to detect local traffic: use one of %s", name, strings.Join(localModes[:], ", "))
	}
	return LocalMode(at), nil
}

// LocalTraffic says which traffic is that of local pods.
type LocalTraffic struct {
	Mode LocalMode
	// Link is the name of the pods' bridge (ByBridge), or what the names of
	// their links begin with (ByLinkPrefix).
	Link string
	// NodeCIDRs are the node's own ranges (ByNodeCIDR). A State's Config has
	// them from the node's object; until that has any, no pods can be told.
	NodeCIDRs []netip.Prefix
}

// maxLinkName is the kernel's limit, IFNAMSIZ without its end.
const maxLinkName = 15

// Check tells what is wrong with it.
func (l *LocalTraffic) Check() error {
	switch {
	case !l.ByLink():
		return nil
	case l.Link == "":
		return fmt.Errorf("detect local traffic by %s: the name is missing", l.Mode)
	case len(l.Link) > maxLinkName || strings.ContainsAny(l.Link, "/*+! \t\n\""):
		return fmt.Errorf("detect local traffic by %s: %q cannot be the name of a link", l.Mode, l.Link)
	}
	return nil
}

// ByLink tells whether the link decides, not the source address.
func (l *LocalTraffic) ByLink() bool { return l.Mode == ByBridge || l.Mode == ByLinkPrefix }

// Matches tells whether traffic that comes in by a link is local; only for modes by link.
func (l *LocalTraffic) Matches(link string) bool {
	if l.Mode == ByLinkPrefix {
		return l.Link != "" && strings.HasPrefix(link, l.Link)
	}
	return l.Link != "" && link == l.Link
}

// localCIDRs are the sources that are local pods, of both families; none when the link decides.
func (c *Config) localCIDRs() []netip.Prefix {
	switch c.Local.Mode {
	case ByNodeCIDR:
		return c.Local.NodeCIDRs
	case ByBridge, ByLinkPrefix:
		return nil
	}
	return c.PodCIDRs
}

// LocalRanges gives the sources of a family that are local pods; none when the link decides.
func (c *Config) LocalRanges(ipv6 bool) (out []netip.Prefix) {
	for _, p := range c.localCIDRs() {
		if p.Addr().Is6() == ipv6 {
			out = append(out, p.Masked())
		}
	}
	return out
}

// KnowsPods tells whether pods of that family can be told from other sources.
func (c *Config) KnowsPods(ipv6 bool) bool {
	return c.Local.ByLink() || slices.ContainsFunc(c.localCIDRs(), func(p netip.Prefix) bool { return p.Addr().Is6() == ipv6 })
}

// IsLocal tells whether a packet is a local pod's: by its source, or by the
// link it comes in by, empty for the node's own.
func (c *Config) IsLocal(src netip.Addr, link string) bool {
	if c.Local.ByLink() {
		return c.Local.Matches(link)
	}
	return slices.ContainsFunc(c.localCIDRs(), func(p netip.Prefix) bool { return p.Contains(src) })
}

// on gives the Config with what only objects of the API say.
func (c *Config) on(here *local) *Config {
	sameNode := c.Local.Mode != ByNodeCIDR || slices.Equal(c.Local.NodeCIDRs, here.podCIDRs)
	if sameNode && slices.Equal(c.ServiceCIDRs, here.serviceCIDRs) {
		return c
	}
	out := *c
	out.Local.NodeCIDRs, out.ServiceCIDRs = here.podCIDRs, here.serviceCIDRs
	return &out
}
