package dns

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"nodelet/bench/lab"
	"nodelet/internal/stubapi"
)

// The addresses of the servers under comparison.
const (
	nodeletAddr = "10.96.0.10:53"
	coreAddr    = "127.0.0.1:1053"
)

// What the Corefiles differ in. kubeadm's leaves names of the cluster out of the
// cache and counts queries; the other one has all that makes CoreDNS quick.
const (
	cached   = "    cache 30\n"
	uncached = "    cache 30 {\n        disable success cluster.local\n        disable denial cluster.local\n    }\n    prometheus 127.0.0.1:9153\n"
)

// corefile is kubeadm's, with the stub API in place of the cluster's, and TTLs of 5 s.
func corefile(api, upstream, cache string) string {
	return `.:1053 {
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        endpoint ` + api + `
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    forward . ` + upstream + `
` + cache + `    loop
    loadbalance
}
`
}

// programs are the paths of the two servers.
type programs struct {
	nodelet, coreDNS string
}

// startNodelet runs the daemon with nothing but DNS.
func (c programs) startNodelet(dir string, api *stubapi.Server, upstream string) (*lab.Process, error) {
	return c.nodeletWith(dir, api, "--upstream="+upstream)
}

func (c programs) nodeletWith(dir string, api *stubapi.Server, flags ...string) (*lab.Process, error) {
	kubeconfig := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n", api.URL())
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	p, err := lab.Run(dir, c.nodelet, append([]string{
		"node", "--components=dns", "--kubeconfig=" + kubeconfig,
		"--data-dir=" + filepath.Join(dir, "data"), "--run-dir=" + filepath.Join(dir, "run"), "--node-ip=192.0.2.77",
		"--hostname-override=bench", "--dns-corefile=", "--log-level=warn",
	}, flags...)...)
	if err != nil {
		return nil, err
	}
	return p, await(p, nodeletAddr)
}

// startCoreDNS runs the peer.
func (c programs) startCoreDNS(dir string, api *stubapi.Server, upstream, cache string) (*lab.Process, error) {
	file := filepath.Join(dir, "Corefile")
	if err := os.WriteFile(file, []byte(corefile(api.URL(), upstream, cache)), 0o600); err != nil {
		return nil, fmt.Errorf("write Corefile: %w", err)
	}
	p, err := lab.Run(dir, c.coreDNS, "-conf", file)
	if err != nil {
		return nil, err
	}
	return p, await(p, coreAddr)
}

// await asks until the server answers for the cluster's own Service.
func await(p *lab.Process, addr string) error {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if r, err := ask("udp", addr, "kubernetes.default.svc.cluster.local.", dns.TypeA); err == nil && len(r.Answer) > 0 {
			return nil
		}
	}
	err := fmt.Errorf("%s does not answer on %s:\n%s", p.Name, addr, p.Log())
	p.Stop()
	return err
}

func ask(network, addr, name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(1232, false)
	c := dns.Client{Net: network, Timeout: 2 * time.Second}
	r, _, err := c.Exchange(m, addr)
	return r, err
}

// startUpstream is the resolver of both: it knows *.example.com and nothing else.
func startUpstream() (addr string, stop func(), err error) {
	conn, err := net.ListenPacket("udp", "127.0.0.9:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen for the upstream: %w", err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		r.RecursionAvailable = true
		zone := "example.com."
		switch q := m.Question[0]; {
		case !strings.HasSuffix(strings.ToLower(q.Name), "example.com."):
			r.Rcode, zone = dns.RcodeNameError, "."
		case q.Qtype == dns.TypeA:
			rr, _ := dns.NewRR(q.Name + " 60 IN A 198.51.100.7")
			r.Answer = append(r.Answer, rr)
		}
		if len(r.Answer) == 0 {
			soa, _ := dns.NewRR(zone + " 60 IN SOA ns.example.com. h.example.com. 1 2 3 4 60")
			r.Ns = append(r.Ns, soa)
		}
		_ = w.WriteMsg(r)
	})
	l, err := net.Listen("tcp", conn.LocalAddr().String())
	if err != nil {
		return "", nil, fmt.Errorf("listen for the upstream: %w", err)
	}
	udp, tcp := &dns.Server{PacketConn: conn, Handler: handler}, &dns.Server{Listener: l, Handler: handler}
	go func() { _ = udp.ActivateAndServe() }() // both end with Shutdown
	go func() { _ = tcp.ActivateAndServe() }()
	return conn.LocalAddr().String(), func() { _, _ = udp.Shutdown(), tcp.Shutdown() }, nil
}
