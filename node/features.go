package node

import (
	"path"
	"strings"

	"nodelet/cni"
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
		ConfDir: c.cniConf(), StateDir: c.Layout.CNIState(),
		ClusterCIDRs: c.ClusterCIDRs, ServiceCIDRs: c.ServiceCIDRs,
	}
}

// cgroups says where the pods' cgroups are.
func (c *Config) cgroups() cgroup.Config {
	return cgroup.Config{Root: strings.TrimPrefix(path.Join(c.CgroupRoot, "kubepods"), "/")}
}
