package lb_test

import (
	"net/netip"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// TestAnsweredHere: a Service whose address the node answers at is not balanced, with endpoints
// (a CoreDNS that is there) and without (one that was scaled to nothing): else the kernel would
// send queries there, or refuse them.
func TestAnsweredHere(t *testing.T) {
	own := *config
	own.Answered = []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("169.254.20.10")}
	for _, endpoints := range []string{"", " 10.244.0.5=ready@n1"} {
		w := lbtest.New()
		err := w.Apply("service kube-system/kube-dns ClusterIP 10.96.0.10 dns:53/UDP metrics:9153/TCP\n" +
			"slice kube-system/a of kube-system/kube-dns dns:53/UDP metrics:9153/TCP" + endpoints + "\n" +
			"service d/web ClusterIP 10.96.0.5 http:80/TCP\n")
		if err != nil {
			t.Fatal(err)
		}
		s := lb.Compile(&own, w.Snapshot())
		for f, to := range s.All() {
			if f.Addr != netip.MustParseAddr("10.96.0.5") && to.Kind != lb.Elsewhere {
				t.Errorf("with endpoints %q there is %s %s", endpoints, to.Kind, f)
			}
		}
		v := s.Describe()
		if len(v) != 2 || v[1].Skipped != "answered by this node itself" {
			t.Errorf("described as %+v", v)
		}
		if n := len(lb.Compile(config, w.Snapshot()).Describe()); n != 3 {
			t.Errorf("%d ports where nothing is answered here: the test proves nothing", n)
		}
	}
}
