package dns

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"nodelet/bench/lab"
	"nodelet/bench/peer"
	"nodelet/internal/stubapi"
)

// TestBesideCoreDNS: as a node-local cache beside a CoreDNS, cluster names are
// answered from the API, whether it is there or not, and all others by it,
// from the cache when it is gone.
func TestBesideCoreDNS(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	api, err := stubapi.Start()
	must(t, err)
	defer api.Close()
	w := newWorld(api, *seed)
	must(t, w.basics())
	upstream, stop, err := startUpstream()
	must(t, err)
	defer stop()
	dir := t.TempDir()
	bin, err := lab.Bin()
	must(t, err)
	peers, _, err := peer.Build(t.Context(), []string{"coredns"}, func(name string) { t.Log("build", name) })
	must(t, err)
	servers := programs{nodelet: filepath.Join(bin, "nodelet"), coreDNS: filepath.Join(peers, "coredns")}
	core, err := servers.startCoreDNS(dir, api, upstream, cached)
	must(t, err)
	defer core.Stop()
	ours, err := servers.nodeletWith(dir, api, "--upstream="+coreAddr, "--dns-listen=169.254.20.10")
	must(t, err)
	defer ours.Stop()

	expect := func(name string, rcode int, addr string) {
		t.Helper()
		for _, server := range []string{"169.254.20.10:53", nodeletAddr} {
			for _, network := range []string{"udp", "tcp"} {
				m, err := ask(network, server, name, dns.TypeA)
				switch {
				case err != nil:
					t.Errorf("%s %s of %s: %v", network, name, server, err)
				case m.Rcode != rcode || addr != "" && (len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != addr):
					t.Errorf("%s %s of %s: %s", network, name, server, m)
				}
			}
		}
	}
	expect("kubernetes.default.svc.cluster.local.", dns.RcodeSuccess, "10.96.0.1")
	expect("absent.default.svc.cluster.local.", dns.RcodeNameError, "")
	expect("www.example.com.", dns.RcodeSuccess, "198.51.100.7")
	expect("nowhere.invalid.", dns.RcodeNameError, "")
	core.Stop()
	expect("kubernetes.default.svc.cluster.local.", dns.RcodeSuccess, "10.96.0.1")
	expect("www.example.com.", dns.RcodeSuccess, "198.51.100.7")
	expect("new.example.com.", dns.RcodeServerFailure, "")
	late := service("default", "late")
	late.Spec.ClusterIP, late.Spec.ClusterIPs = "10.96.0.77", []string{"10.96.0.77"}
	late.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
	must(t, api.Put(late))
	awaitAnswer(t, "late.default.svc.cluster.local.", "10.96.0.77")
}

func awaitAnswer(t *testing.T, name, addr string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if m, err := ask("udp", nodeletAddr, name, dns.TypeA); err == nil && len(m.Answer) == 1 && m.Answer[0].(*dns.A).A.String() == addr {
			return
		}
	}
	t.Errorf("%s is not answered with %s", name, addr)
}
