package node

import (
	"path"
	"strings"

	"nodelet/cni"
	"nodelet/dns"
	"nodelet/internal/cgroup"
)

func (n *Node) buildCNI() error {
	f, err := cni.New(n.cfg.cni(), cni.Deps{Store: n.store, Log: n.deps.Log, Health: n.watchHealth("pod network")})
	n.cni = f
	return err
}

func (c *Config) cni() cni.Config {
	return cni.Config{
		NodeName: c.NodeName, NodeIPs: c.NodeIPs,
		ConfDir: c.Layout.CNIConf(), StateDir: c.Layout.CNIState(),
		ServiceCIDRs: c.ServiceCIDRs,
	}
}

func (n *Node) buildDNS() error {
	f, err := dns.New(n.cfg.dns(), dns.Deps{Store: n.store, Log: n.deps.Log})
	if err != nil {
		return err
	}
	n.dns = f
	n.watchStatus("cluster DNS", f.Health)
	return nil
}

func (c *Config) dns() dns.Config {
	d := dns.DefaultConfig(c.ClusterDomain, c.ClusterDNS...)
	d.ResolvConf = c.ResolvConf
	return d
}

// cgroups says where the pods' cgroups are.
func (c *Config) cgroups() cgroup.Config {
	return cgroup.Config{Root: strings.TrimPrefix(path.Join(c.CgroupRoot, "kubepods"), "/")}
}
