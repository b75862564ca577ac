package link

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"nodelet/cni/linkplan"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// inNode runs fn inside a namespace that plays the node, with one for a pod.
func inNode(t testing.TB, fn func(host *nl.Conn, pod *netns.NS)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	node, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	pod, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	err = node.Do(func() error {
		host, err := nl.Open()
		if err != nil {
			return err
		}
		defer host.Close()
		fn(host, pod)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func plan(t testing.TB, id string, addrs ...string) linkplan.Plan {
	t.Helper()
	var list []netip.Addr
	for _, a := range addrs {
		list = append(list, netip.MustParseAddr(a))
	}
	p, err := linkplan.Make(linkplan.Request{ContainerID: id, IfName: "eth0"}, linkplan.Network{MTU: 1400}, list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestApplyTwiceCheckRemove(t *testing.T) {
	inNode(t, func(host *nl.Conn, pod *netns.NS) {
		p := plan(t, "a", "10.244.0.5", "fd00::5")
		for range 2 {
			if err := Apply(host, pod, p, nil); err != nil {
				t.Error(err)
				return
			}
			if err := Check(host, pod, p); err != nil {
				t.Error(err)
			}
		}
		got, err := Ours(host)
		if err != nil || len(got) != 1 || len(got[p.Host.Name]) != 2 {
			t.Errorf("ours: %v %v", got, err)
		}
		for range 2 {
			if err := Remove(host, p.Host.Name); err != nil {
				t.Error(err)
			}
		}
		if err := Check(host, pod, p); !errors.Is(err, nl.ErrNotFound) {
			t.Errorf("check after remove: %v", err)
		}
		if routes, err := host.Routes(nl.Proto); err != nil || len(routes) != 0 {
			t.Errorf("left: %v %v", routes, err)
		}
	})
}

// TestResume: whatever step an Apply was cut short after, the next one ends whole.
func TestResume(t *testing.T) {
	inNode(t, func(host *nl.Conn, pod *netns.NS) {
		p := plan(t, "a", "10.244.0.5", "fd00::5")
		var steps []string
		if err := Apply(host, pod, p, func(s string) { steps = append(steps, s) }); err != nil {
			t.Error(err)
			return
		}
		for _, cut := range steps {
			if err := Remove(host, p.Host.Name); err != nil {
				t.Error(err)
			}
			func() {
				defer func() { _ = recover() }()
				_ = Apply(host, pod, p, func(s string) {
					if s == cut {
						panic("cut here")
					}
				})
			}()
			if err := Apply(host, pod, p, nil); err != nil {
				t.Errorf("after %s: %v", cut, err)
			}
			if err := Check(host, pod, p); err != nil {
				t.Errorf("after %s: %v", cut, err)
			}
		}
		if len(steps) < 5 {
			t.Errorf("steps: %v", steps)
		}
	})
}

func TestSameSandboxOtherNamespace(t *testing.T) {
	inNode(t, func(host *nl.Conn, pod *netns.NS) {
		other, err := netns.New()
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Close()
		p := plan(t, "a", "10.244.0.5")
		if err := Apply(host, pod, p, nil); err != nil {
			t.Error(err)
		}
		if err := Apply(host, other, p, nil); err != nil {
			t.Error(err)
		}
		if err := Check(host, other, p); err != nil {
			t.Error(err)
		}
	})
}

func TestForeignLinksAreLeftAlone(t *testing.T) {
	inNode(t, func(host *nl.Conn, pod *netns.NS) {
		p := plan(t, "a", "10.244.0.5")
		index, err := host.AddVeth(nl.Veth{Name: p.Host.Name, MTU: 1500, PeerNS: pod.Fd(), PeerName: "other0"})
		if err != nil {
			t.Error(err)
			return
		}
		if err := Apply(host, pod, p, nil); err == nil || !strings.Contains(err.Error(), "is not nodelet's") {
			t.Errorf("apply over a foreign link: %v", err)
		}
		if err := Remove(host, p.Host.Name); err == nil {
			t.Error("a foreign link was removed")
		}
		if _, err := host.LinkByIndex(index); err != nil {
			t.Error(err)
		}
		// An interface of that name inside the pod, made by another plugin.
		q := plan(t, "b", "10.244.0.6")
		if _, err := host.AddVeth(nl.Veth{Name: "vethforeign", MTU: 1500, PeerNS: pod.Fd(), PeerName: "eth0"}); err != nil {
			t.Error(err)
		}
		if err := Apply(host, pod, q, nil); err == nil || !strings.Contains(err.Error(), "exists in") {
			t.Errorf("apply over a foreign eth0: %v", err)
		}
	})
}

func TestRepair(t *testing.T) {
	inNode(t, func(host *nl.Conn, pod *netns.NS) {
		p := plan(t, "a", "10.244.0.5")
		if err := Apply(host, pod, p, nil); err != nil {
			t.Error(err)
			return
		}
		if repaired, err := Repair(host, p.Host); err != nil || repaired {
			t.Errorf("repair of what is whole: %v %v", repaired, err)
		}
		l, err := host.Link(p.Host.Name)
		if err != nil {
			t.Error(err)
			return
		}
		breaks := map[string]func() error{
			"route":  func() error { return host.DeleteRoute(nl.Route{Dst: p.Host.Routes[0].Dst, Link: l.Index}) },
			"neigh":  func() error { return host.DeleteNeigh(nl.Neigh{IP: p.Host.Neighs[0].IP, Link: l.Index}) },
			"sysctl": func() error { _, err := netns.WriteSysctl(p.Host.Sysctls[0].Key, "0"); return err },
		}
		for name, harm := range breaks {
			if err := harm(); err != nil {
				t.Error(err)
			}
			if repaired, err := Repair(host, p.Host); err != nil || !repaired {
				t.Errorf("%s: %v %v", name, repaired, err)
			}
			if err := Check(host, pod, p); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := Remove(host, p.Host.Name); err != nil {
			t.Error(err)
		}
		if _, err := Repair(host, p.Host); !errors.Is(err, nl.ErrNotFound) {
			t.Errorf("repair without a link: %v", err)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	inNode(b, func(host *nl.Conn, _ *netns.NS) {
		p := plan(b, "a", "10.244.0.5")
		for b.Loop() {
			b.StopTimer()
			pod, err := netns.New()
			if err != nil {
				b.Error(err)
			}
			b.StartTimer()
			if err := Apply(host, pod, p, nil); err != nil {
				b.Error(err)
			}
			b.StopTimer()
			if err := Remove(host, p.Host.Name); err != nil {
				b.Error(err)
			}
			_ = pod.Close()
			b.StartTimer()
		}
	})
}
