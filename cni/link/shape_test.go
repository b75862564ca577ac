package link

import (
	"math"
	"net/netip"
	"strings"
	"testing"

	"nodelet/cni/linkplan"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

func limited(t testing.TB) linkplan.Plan {
	t.Helper()
	p, err := linkplan.Make(linkplan.Request{ContainerID: "limited", IfName: "eth0", Bandwidth: linkplan.Bandwidth{
		Ingress: linkplan.Limit{Rate: 1e6, Burst: math.MaxUint32}, Egress: linkplan.Limit{Rate: 80e9, Burst: 8e6},
	}}, linkplan.Network{MTU: 1400}, []netip.Addr{netip.MustParseAddr("10.244.0.5")})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Limits are made once, seen when they are gone or others, put back, and go with the attachment.
func TestShapes(t *testing.T) {
	inNode(t, func(host *nl.Conn, pod *netns.NS) {
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		check(host.AddIfb("ifb0", 1500, 0)) // the machine's
		p := limited(t)
		for range 2 {
			check(Apply(host, pod, p, nil))
			check(Check(host, pod, p))
		}
		ends := []linkplan.End{p.Host}
		whole := func() bool { broken, err := Broken(host, ends); check(err); return len(broken) == 0 }
		veth, err := host.Link(p.Host.Name)
		check(err)
		ifb, err := host.Link(linkplan.IfbName(p.Host.Name))
		check(err)
		other, err := host.Link("ifb0")
		check(err)
		if !whole() {
			t.Error("what is whole is taken for broken")
		}
		for what, tamper := range map[string]func() error{
			"does not limit what the pod receives to 125000":   func() error { return host.SetShaper(nl.Shaper{Link: veth.Index, Rate: 1e9, Burst: 1e6, Limit: 1e6}) },
			"does not limit what the pod sends to 10000000000": func() error { return host.RedirectIngress(veth.Index, other.Index) },
			"not found": func() error { return host.DeleteLink(ifb.Index) },
		} {
			check(tamper())
			if err := Check(host, pod, p); err == nil || !strings.Contains(err.Error(), what) || whole() {
				t.Errorf("%s: %v, whole %t", what, err, whole())
			}
			if repaired, err := Repair(host, p.Host); !repaired || err != nil {
				t.Fatal(what, repaired, err)
			}
			check(Check(host, pod, p))
		}
		if orphans, err := Orphans(host); len(orphans) > 0 || err != nil {
			t.Error(orphans, err)
		}
		check(host.DeleteLink(veth.Index)) // as a runtime does with the namespace
		orphans, err := Orphans(host)
		if err != nil || len(orphans) != 1 || orphans[0] != p.Host.Name {
			t.Fatal(orphans, err)
		}
		check(Remove(host, orphans[0]))
		if orphans, err := Orphans(host); len(orphans) > 0 || err != nil {
			t.Error(orphans, err)
		}
		check(Apply(host, pod, p, nil))
		check(Remove(host, p.Host.Name))
		left, err := host.Links()
		check(err)
		for _, l := range left {
			if l.Name != "lo" && l.Name != "ifb0" {
				t.Errorf("left: %s", l)
			}
		}
		if _, err := host.Link("ifb0"); err != nil {
			t.Error(err)
		}
	})
}
