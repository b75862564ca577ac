package lb_test

import (
	"net/netip"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

func TestParseLocalMode(t *testing.T) {
	for _, name := range lb.LocalModes() {
		if m, err := lb.ParseLocalMode(name); err != nil || m.String() != name {
			t.Errorf("%s: %s, %v", name, m, err)
		}
	}
	if m, err := lb.ParseLocalMode(""); err != nil || m != lb.ByClusterCIDR {
		t.Errorf("no name: %s, %v", m, err)
	}
	if _, err := lb.ParseLocalMode("clustercidr"); err == nil {
		t.Error("a name in small letters is taken")
	}
}

func TestLocalTrafficCheck(t *testing.T) {
	for _, c := range []struct {
		local lb.LocalTraffic
		right bool
	}{
		{lb.LocalTraffic{}, true},
		{lb.LocalTraffic{Mode: lb.ByNodeCIDR}, true},
		{lb.LocalTraffic{Mode: lb.ByBridge, Link: "cni0"}, true},
		{lb.LocalTraffic{Mode: lb.ByBridge}, false},
		{lb.LocalTraffic{Mode: lb.ByLinkPrefix}, false},
		{lb.LocalTraffic{Mode: lb.ByLinkPrefix, Link: "veth*"}, false},
		{lb.LocalTraffic{Mode: lb.ByLinkPrefix, Link: "a-name-of-16-let"}, false},
		{lb.LocalTraffic{Mode: lb.ByBridge, Link: "br 0"}, false},
	} {
		if err := c.local.Check(); (err == nil) != c.right {
			t.Errorf("%+v: %v", c.local, err)
		}
	}
}

func TestIsLocal(t *testing.T) {
	w := lbtest.MustParse("node n1 192.168.0.1 pods=10.244.1.0/24")
	here, there, other := netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("10.244.2.2"), netip.MustParseAddr("9.9.9.9")
	for _, c := range []struct {
		local lb.LocalTraffic
		src   netip.Addr
		link  string
		want  bool
	}{
		{lb.LocalTraffic{}, there, "eth0", true},
		{lb.LocalTraffic{}, other, "veth1", false},
		{lb.LocalTraffic{Mode: lb.ByNodeCIDR}, here, "eth0", true},
		{lb.LocalTraffic{Mode: lb.ByNodeCIDR}, there, "veth1", false},
		{lb.LocalTraffic{Mode: lb.ByBridge, Link: "veth"}, other, "veth", true},
		{lb.LocalTraffic{Mode: lb.ByBridge, Link: "veth"}, here, "veth1", false},
		{lb.LocalTraffic{Mode: lb.ByLinkPrefix, Link: "veth"}, other, "veth1", true},
		{lb.LocalTraffic{Mode: lb.ByLinkPrefix, Link: "veth"}, here, "eth0", false},
		{lb.LocalTraffic{Mode: lb.ByLinkPrefix, Link: "veth"}, here, "", false},
	} {
		cfg := *config
		cfg.Local = c.local
		s := lb.Compile(&cfg, w.Snapshot())
		if got := s.Config().IsLocal(c.src, c.link); got != c.want {
			t.Errorf("%+v: %s by %q is local: %t", c.local, c.src, c.link, got)
		}
		if !s.Config().KnowsPods(false) || s.Config().KnowsPods(true) == (c.local.Mode == lb.ByNodeCIDR) {
			t.Errorf("%+v: pods are known: %t, %t", c.local, s.Config().KnowsPods(false), s.Config().KnowsPods(true))
		}
	}
}

// TestNodeCIDRFollowsTheNode: the ranges come with the node's object, and a
// back end sees by the Config that they have changed.
func TestNodeCIDRFollowsTheNode(t *testing.T) {
	cfg := *config
	cfg.Local.Mode = lb.ByNodeCIDR
	w := lbtest.MustParse("node n1 192.168.0.1")
	before := lb.Compile(&cfg, w.Snapshot())
	if before.Config().KnowsPods(false) {
		t.Error("pods are known before the node has any range for them")
	}
	_ = w.Apply("node n1 192.168.0.1 pods=10.244.1.0/24")
	after := lb.Advance(before, w.Snapshot())
	if after.Config() == before.Config() || !after.Config().KnowsPods(false) {
		t.Error("the node's range is not taken up")
	}
	_ = w.Apply("node n1 192.168.0.1 pods=10.244.1.0/24\nnode n2 192.168.0.2 pods=10.244.2.0/24")
	if again := lb.Advance(after, w.Snapshot()); again.Config() != after.Config() {
		t.Error("another Config for another node's range")
	}
}
