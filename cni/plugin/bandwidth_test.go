package plugin_test

import (
	"context"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"nodelet/cni/cnitest"
	"nodelet/cni/linkplan"
	"nodelet/cni/plugin"
	"nodelet/internal/nl"
)

// shaperOf gives the token bucket of a link in a node.
func shaperOf(t *testing.T, n *cnitest.Node, name string) (out nl.Shaper) {
	t.Helper()
	n.In(func(c *nl.Conn) error {
		l, err := c.Link(name)
		if err != nil {
			return err
		}
		all, err := c.Shapers()
		for _, s := range all {
			if s.Link == l.Index {
				out = s
			}
		}
		return err
	})
	return out
}

// flood sends datagrams until the bucket has dropped some: whatever the machine
// does meanwhile, more is sent in a second than the bucket has tokens for.
func flood(t *testing.T, from *cnitest.Host, to netip.Addr, dropped func() uint32) {
	t.Helper()
	const rounds, burst = 200, 500
	packet := make([]byte, 1200)
	from.Do(func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(to, 9).String())
		if err != nil {
			return err
		}
		defer c.Close()
		for range rounds {
			for range burst {
				_, _ = c.Write(packet) // refused ports and full queues are as good
			}
			if dropped() > 0 {
				return nil
			}
		}
		t.Errorf("%d bytes from %s to %s: none was held back", rounds*burst*len(packet), from.Name, to)
		return nil
	})
}

// A pod with limits has its traffic, up to them, in both directions; the others have no limit.
func TestBandwidth(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node", bin, "10.244.1.0/24")
	n.Run("ip", "link", "add", "ifb0", "type", "ifb") // the machine's
	p := n.Sandbox("limited")
	p.Bandwidth = &plugin.Bandwidth{IngressRate: 1e6, IngressBurst: math.MaxUint32, EgressRate: 2e6, EgressBurst: math.MaxUint32}
	if err := n.Add(p); err != nil {
		t.Fatal(err)
	}
	free := n.AddPod("free")
	veth := linkplan.VethName(linkplan.Request{ContainerID: "limited", IfName: "eth0"})
	freeVeth := linkplan.VethName(linkplan.Request{ContainerID: "free", IfName: "eth0"})
	if err := n.Check(p); err != nil {
		t.Error(err)
	}
	p.ServeTCP(80)
	n.ServeUDP(n.IP, 53)
	n.Expect("tcp", cnitest.At(p.IP, 80), "limited", n.IP)
	free.Expect("tcp", cnitest.At(p.IP, 80), "limited", free.IP)
	p.Expect("udp", cnitest.At(n.IP, 53), "node", p.IP)
	if in, out := shaperOf(t, n, veth).Rate, shaperOf(t, n, linkplan.IfbName(veth)).Rate; in != 125000 || out != 250000 {
		t.Errorf("limits %d, %d bytes/s", in, out)
	}
	flood(t, n.Host, p.IP, func() uint32 { return shaperOf(t, n, veth).Dropped })
	flood(t, p.Host, n.IP, func() uint32 { return shaperOf(t, n, linkplan.IfbName(veth)).Dropped })
	if s := shaperOf(t, n, freeVeth); s.Rate != 0 {
		t.Errorf("the other pod has a limit: %+v", s)
	}
	n.Run("tc", "qdisc", "del", "dev", veth, "root")
	if err := n.Check(p); err == nil || !strings.Contains(err.Error(), "does not limit what the pod receives") {
		t.Errorf("CHECK without the limit: %v", err)
	}
	if err := n.Del(p); err != nil {
		t.Error(err)
	}
	links := n.Run("ip", "-o", "link")
	if strings.Contains(links, veth) || strings.Contains(links, linkplan.IfbName(veth)) || !strings.Contains(links, "ifb0") {
		t.Errorf("after DEL:\n%s", links)
	}
}

// GC removes what limits a pod that is gone, and nothing else.
func TestBandwidthIsCollected(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node", bin, "10.244.1.0/24")
	n.Run("ip", "link", "add", "ifb0", "type", "ifb")
	var veths []string
	for _, id := range []string{"stays", "goes"} {
		p := n.Sandbox(id)
		p.Bandwidth = &plugin.Bandwidth{EgressRate: 2e6}
		if err := n.Add(p); err != nil {
			t.Fatal(err)
		}
		veths = append(veths, linkplan.VethName(linkplan.Request{ContainerID: id, IfName: "eth0"}))
	}
	cni, list, err := n.CNI()
	if err != nil {
		t.Fatal(err)
	}
	n.Do(func() error {
		return cni.GCNetworkList(context.Background(), list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "stays", IfName: "eth0"}}})
	})
	links := n.Run("ip", "-o", "link")
	if !strings.Contains(links, linkplan.IfbName(veths[0])) || strings.Contains(links, linkplan.IfbName(veths[1])) || !strings.Contains(links, "ifb0") {
		t.Errorf("after GC:\n%s", links)
	}
}
