package proxytest

import (
	"context"
	"errors"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// detectLocal: what local pods are is told in several ways. It decides who is
// masqueraded on the way to a ClusterIP, and for whom the external traffic
// policy does not count.
func detectLocal(t *testing.T, s subject) {
	for _, local := range []lb.LocalTraffic{
		{Mode: lb.ByClusterCIDR}, {Mode: lb.ByNodeCIDR}, {Mode: lb.ByBridge, Link: "vetha"}, {Mode: lb.ByLinkPrefix, Link: "veth"},
	} {
		t.Run(local.Mode.String(), func(t *testing.T) {
			s := s
			s.local = local
			if !s.detects(t) {
				t.Skipf("this back end says that it cannot detect local traffic by %s", local.Mode)
			}
			b := newBench(t, s, "service d/x ClusterIP 10.96.0.1,fd96::1 p:80/TCP q:53/UDP\n"+endpoints("d/x", "a", "c")+
				"service d/l NodePort 10.96.0.2,fd96::2 p:80/TCP[30001] q:53/UDP[31001] external=local\n"+endpoints("d/l", "a", "r"))
			b.localFlows()
			// The node gets more addresses for its pods: only one mode knows of that.
			b.change("node n1 192.168.7.1 192.168.8.1 fd07::1 fd08::1 pods=10.244.0.0/16,fd44::/16")
			b.localFlows()
		})
	}
}

// detects tells whether the back end can do with the subject's way to tell local pods.
func (s *subject) detects(t *testing.T) bool {
	t.Helper()
	lab := NewLab(t)
	back, err := s.open(lab.Node.NS.Fd())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = back.Close() }()
	state := lb.Compile(&lb.Config{NodeName: "n1", PodCIDRs: podCIDRs, Local: s.local}, lbtest.MustParse(nodes).Snapshot())
	_, err = back.Apply(context.Background(), state)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	if err == nil {
		err = back.Cleanup(context.Background())
	}
	return err == nil
}

func (b *bench) localFlows() {
	b.t.Helper()
	for _, from := range []string{"a", "c", "r", "node", "outside"} {
		b.agree(from+" -> 10.96.0.1:80/TCP", from+" -> [fd96::1]:80/TCP", from+" -> 10.96.0.1:53/UDP")
		if from == "r" && b.sourceOf(b.Host(from), false) == lb.FromPod {
			continue // it may be its own endpoint: its own node's affair
		}
		b.agree(from+" -> 192.168.7.1:30001/TCP", from+" -> [fd07::1]:30001/TCP", from+" -> 192.168.8.1:31001/UDP")
	}
}
