package cnitest

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"

	"nodelet/cni/plugin"
	"nodelet/internal/netns"
)

// Node is a host that runs pods.
type Node struct {
	*Host
	Config plugin.Config
	// Bin is the directory nodelet-cni is in.
	Bin string
	lab *Lab
}

// Pod is a sandbox attached to a node.
type Pod struct {
	*Host
	ID     string
	Path   string
	Result *current.Result
	// Bandwidth, when set before Add, limits the pod.
	Bandwidth *plugin.Bandwidth
}

// Node makes a host a node that gives out addresses from these subnets. It
// forwards packets and has no rules yet: those are the daemon's work.
func (l *Lab) Node(name, bin string, subnets ...string) *Node {
	h := l.Host(name)
	n := &Node{Host: h, Bin: bin, lab: l, Config: plugin.Config{
		Name: "nodelet", MTU: MTU, StateDir: filepath.Join(l.Dir, name, "state"), NodeIPs: []netip.Addr{h.IP, h.IP6},
		Inside: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")},
	}}
	for _, s := range subnets {
		n.Config.Subnets = append(n.Config.Subnets, netip.MustParsePrefix(s))
	}
	h.Sysctl("ipv4/ip_forward", "1")
	h.Sysctl("ipv6/conf/all/forwarding", "1")
	return n
}

// Sandbox makes a pod's namespace without attaching it.
func (n *Node) Sandbox(id string) *Pod {
	n.t.Helper()
	path := filepath.Join(n.lab.Dir, n.Name, "netns", id)
	ns, err := netns.Create(path)
	if err != nil {
		n.t.Fatal(err)
	}
	p := &Pod{Host: &Host{Name: id, NS: ns, t: n.t}, ID: id, Path: path}
	n.t.Cleanup(func() { _ = ns.Close(); _ = netns.Delete(path) })
	return p
}

// AddPod makes a sandbox and attaches it.
func (n *Node) AddPod(id string, ports ...plugin.PortMapping) *Pod {
	n.t.Helper()
	p := n.Sandbox(id)
	if err := n.Add(p, ports...); err != nil {
		n.t.Fatalf("ADD %s: %v", id, err)
	}
	return p
}

// CNI gives libcni and the network configuration list, as a runtime holds them.
func (n *Node) CNI() (*libcni.CNIConfig, *libcni.NetworkConfigList, error) {
	text, err := n.Config.ConfList()
	if err != nil {
		return nil, nil, err
	}
	list, err := libcni.NetworkConfFromBytes(text)
	return libcni.NewCNIConfigWithCacheDir([]string{n.Bin}, filepath.Join(n.lab.Dir, n.Name, "cache"), nil), list, err
}

// call runs fn with libcni inside the node.
func (n *Node) call(fn func(*libcni.CNIConfig, *libcni.NetworkConfigList) error) error {
	cni, list, err := n.CNI()
	if err != nil {
		return err
	}
	return n.NS.Do(func() error { return fn(cni, list) })
}

func (p *Pod) runtimeConf(ports []plugin.PortMapping) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: p.ID, NetNS: p.Path, IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", p.Name}, {"K8S_POD_UID", "uid-" + p.ID}}}
	rt.CapabilityArgs = map[string]any{}
	if len(ports) > 0 {
		rt.CapabilityArgs["portMappings"] = ports
	}
	if p.Bandwidth != nil {
		rt.CapabilityArgs["bandwidth"] = p.Bandwidth
	}
	return rt
}

// Add attaches a sandbox.
func (n *Node) Add(p *Pod, ports ...plugin.PortMapping) error {
	return n.call(func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		res, err := cni.AddNetworkList(context.Background(), list, p.runtimeConf(ports))
		if err != nil {
			return err
		}
		if p.Result, err = current.NewResultFromResult(res); err != nil {
			return err
		}
		for _, ip := range p.Result.IPs {
			a, _ := netip.AddrFromSlice(ip.Address.IP)
			if a = a.Unmap(); a.Is4() {
				p.IP = a
			} else {
				p.IP6 = a
			}
		}
		if len(p.Result.IPs) == 0 {
			return fmt.Errorf("ADD of %s gave no address", p.ID)
		}
		return nil
	})
}

// Del detaches a sandbox.
func (n *Node) Del(p *Pod, ports ...plugin.PortMapping) error {
	return n.call(func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		return cni.DelNetworkList(context.Background(), list, p.runtimeConf(ports))
	})
}

// Check asks whether a sandbox is attached as ADD has said.
func (n *Node) Check(p *Pod) error {
	return n.call(func(cni *libcni.CNIConfig, list *libcni.NetworkConfigList) error {
		return cni.CheckNetworkList(context.Background(), list, p.runtimeConf(nil))
	})
}
