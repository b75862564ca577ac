package node

import (
	"errors"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/agent/exclusive"
	"nodelet/agent/exclusive/alignplan"
	"nodelet/agent/exclusive/cpuplan"
	"nodelet/agent/nodestatus/nodeplan"
	"nodelet/agent/podresources"
)

// buildExclusive makes the part that hands out devices and CPUs, and the API that tells of it.
func (p *agentParts) buildExclusive() error {
	c := &p.n.cfg
	cpus, align, err := c.cpus()
	if err != nil {
		return err
	}
	root := c.Layout.KubeletRoot()
	p.exclusive = exclusive.New(exclusive.Config{Dir: filepath.Join(root, "device-plugins"), CPUs: cpus, Align: align}, exclusive.Deps{
		Store: p.n.store, Grants: p.n.writers.Grants, Runtime: p.runtime, Events: p.events,
		KeepGrants: p.kept.grants, GrantsBefore: p.kept.grantsBefore, KeepPlugins: p.kept.plugins, PluginsBefore: p.kept.pluginsBefore,
		Changed: func() { p.status.Recheck() }, Metrics: p.n.metrics.Exclusive(), Log: p.n.deps.Log,
		PodsHealth: p.n.watchHealth("exclusive resources"), PluginsHealth: p.n.watchHealth("device plugins"), CPUsHealth: p.n.watchHealthIf(cpus != nil, "CPU sets"),
	})
	p.n.metrics.CPUs(p.exclusive.CPUCounts)
	m := p.n.metrics.PodResources()
	p.podResources = podresources.New(filepath.Join(root, "pod-resources", "kubelet.sock"), podresources.Deps{
		Store: p.n.store, Devices: p.exclusive.Devices, CPUs: p.exclusive.CPUs,
		Asked: m.Asked, Failed: m.Failed,
	})
	return nil
}

// check says which settings contradict one another.
func (p *CPUPolicy) check() error {
	if p.Options.Sockets && p.Align == alignplan.SingleNode {
		return errors.New("align-by-socket contradicts topologyManagerPolicy single-numa-node")
	}
	return p.Options.Check()
}

// cpus is the machine as the static CPU policy sees it, nil without that policy, and the topology policy.
func (c *Config) cpus() (*exclusive.CPUs, exclusive.Align, error) {
	policy, align := c.Kubelet.CPUPolicy, exclusive.Align{}
	if !policy.Static && !policy.Align.On() {
		return nil, align, nil
	}
	topology, err := exclusive.ReadTopology("/sys")
	if err != nil {
		return nil, align, fmt.Errorf("static CPU policy: %w", err)
	}
	if policy.Align.On() {
		if err := topology.CheckNodes(); err != nil {
			return nil, align, fmt.Errorf("topologyManagerPolicy %s: %w", policy.Align, err)
		}
		align = exclusive.Align{Policy: policy.Align, Pod: policy.AlignPods, Nodes: topology.Nodes()}
		if policy.AlignClosest && policy.Align != alignplan.SingleNode { // one node is as near as another
			if align.Near, err = exclusive.ReadDistances("/sys"); err != nil {
				return nil, align, fmt.Errorf("topologyManagerPolicyOptions prefer-closest-numa-nodes: %w", err)
			}
		}
	}
	if !policy.Static {
		return nil, align, nil
	}
	cpus, err := c.staticCPUs(topology)
	return cpus, align, err
}

func (c *Config) staticCPUs(topology cpuplan.Topology) (*exclusive.CPUs, error) {
	policy := c.Kubelet.CPUPolicy
	if policy.Options.Sockets && topology.Sockets() > topology.Nodes().Count() {
		return nil, errors.New("cpuManagerPolicyOptions: align-by-socket does not fit a machine with more sockets than NUMA nodes")
	}
	named, err := cpuplan.Parse(policy.Reserved)
	if err != nil {
		return nil, fmt.Errorf("reservedSystemCPUs: %w", err)
	}
	kube, system := c.Kubelet.KubeReserved[corev1.ResourceCPU], c.Kubelet.SystemReserved[corev1.ResourceCPU]
	reserved, err := cpuplan.Reserved(topology, named, kube.MilliValue()+system.MilliValue())
	if err != nil {
		return nil, err
	}
	return &exclusive.CPUs{
		Topology: topology, Reserved: reserved, Options: policy.Options,
	}, nil
}

// reservedCPU is what is kept from pods where reservedSystemCPUs names CPUs: they stand for the amounts.
func (c *Config) reservedCPU(kube, system corev1.ResourceList) (corev1.ResourceList, corev1.ResourceList) {
	named, err := cpuplan.Parse(c.Kubelet.CPUPolicy.Reserved)
	if err != nil || len(named) == 0 {
		return kube, system
	}
	kube, system = kube.DeepCopy(), system.DeepCopy()
	delete(kube, corev1.ResourceCPU)
	if system == nil {
		system = corev1.ResourceList{}
	}
	system[corev1.ResourceCPU] = *resource.NewQuantity(int64(len(named)), resource.DecimalSI)
	return kube, system
}

// pluginResources is what the node's status shows of device plugins.
func (p *agentParts) pluginResources() (all []nodeplan.Device) {
	for _, r := range p.exclusive.Resources() {
		all = append(all, nodeplan.Device(r))
	}
	return all
}
