package node

import (
	"context"
	"path"
	"strings"

	"nodelet/cni"
	"nodelet/internal/cgroup"
	"nodelet/proxy"
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

func (n *Node) buildProxy() error {
	f, err := proxy.New(context.Background(), n.cfg.proxy(), proxy.Deps{Store: n.store, Log: n.deps.Log, Metrics: n.proxyMetrics()})
	if err != nil {
		return err
	}
	n.proxy = f
	n.watchStatus("service proxy", f.Health)
	return nil
}

func (c *Config) proxy() proxy.Config {
	return proxy.Config{NodeName: c.NodeName, Mode: c.ProxyMode, PodCIDRs: c.ClusterCIDRs, HealthzAddr: c.ProxyHealthAddr.String()}
}

// cgroups says where the pods' cgroups are.
func (c *Config) cgroups() cgroup.Config {
	return cgroup.Config{Root: strings.TrimPrefix(path.Join(c.CgroupRoot, "kubepods"), "/")}
}
