package dns

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"nodelet/bench/lab"
	"nodelet/bench/peer"
	"nodelet/internal/stubapi"
)

var (
	questions = flag.Int("questions", 10_000, "how many random questions to compare")
	seed      = flag.Uint64("seed", 1, "seed of the objects and questions")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Geteuid() == 0 {
		if err := lab.Enter(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// known are the differences that are meant, as docs/dns.md explains them.
var known = []struct {
	why string
	is  func(q dns.Question, core, ours *dns.Msg) bool
}{
	{"TXT at a name that exists without data is NODATA, CoreDNS says NXDOMAIN", func(q dns.Question, core, ours *dns.Msg) bool {
		return q.Qtype == dns.TypeTXT && core.Rcode == dns.RcodeNameError && ours.Rcode == dns.RcodeSuccess && len(ours.Answer) == 0
	}},
	{"labels of an SRV name need their underscore", func(q dns.Question, core, ours *dns.Msg) bool {
		l := dns.SplitDomainName(q.Name)
		return len(l) == 7 && strings.EqualFold(l[4], "svc") && (l[0][0] != '_' || l[1][0] != '_' || l[0] == "_") && ours.Rcode == dns.RcodeNameError
	}},
	{"SOA of a name that does not exist is NXDOMAIN, CoreDNS says NODATA", func(q dns.Question, core, ours *dns.Msg) bool {
		return q.Qtype == dns.TypeSOA && core.Rcode == dns.RcodeSuccess && len(core.Answer) == 0 && ours.Rcode == dns.RcodeNameError
	}},
	{"a pod record has no SRV, CoreDNS makes one with port 0", func(q dns.Question, core, ours *dns.Msg) bool {
		l := dns.SplitDomainName(q.Name)
		return q.Qtype == dns.TypeSRV && len(l) == 5 && strings.EqualFold(l[2], "pod") && ours.Rcode == dns.RcodeSuccess && len(ours.Answer) == 0
	}},
	{"of a reply that is too large other records are left", func(_ dns.Question, core, ours *dns.Msg) bool {
		return (core.Truncated || ours.Truncated) && core.Rcode == ours.Rcode
	}},
	{"nothing is below a pod record", func(q dns.Question, core, ours *dns.Msg) bool {
		l := dns.SplitDomainName(q.Name)
		return len(l) > 5 && strings.EqualFold(l[len(l)-3], "pod") && ours.Rcode == dns.RcodeNameError
	}},
	{"an ExternalName that leads outside has the code of its target (RFC 6604), CoreDNS says NOERROR", func(q dns.Question, core, ours *dns.Msg) bool {
		return len(ours.Answer) > 0 && ours.Answer[0].Header().Rrtype == dns.TypeCNAME && core.Rcode == dns.RcodeSuccess && ours.Rcode != dns.RcodeSuccess
	}},
	{"a negative reply behind a CNAME has the SOA of the CNAME's target", func(q dns.Question, core, ours *dns.Msg) bool {
		return len(ours.Answer) == 1 && ours.Answer[0].Header().Rrtype == dns.TypeCNAME && core.Rcode == ours.Rcode && len(ours.Ns) > 0
	}},
	{"the name server and the revision are our own", func(q dns.Question, _, _ *dns.Msg) bool {
		q.Name = strings.ToLower(q.Name)
		return q.Name == "ns.dns.cluster.local." || strings.HasSuffix(q.Name, "_nodelet.cluster.local.") || q.Name == "cluster.local." && q.Qtype == dns.TypeNS
	}},
	{"dns-version exists for every type", func(q dns.Question, _, _ *dns.Msg) bool {
		return strings.EqualFold(q.Name, "dns-version.cluster.local.")
	}},
}

// TestDifferential asks CoreDNS and nodelet the same questions about the same
// objects; every difference must be a known one.
func TestDifferential(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	api, err := stubapi.Start()
	must(t, err)
	defer api.Close()
	w := newWorld(api, *seed)
	must(t, w.basics())
	must(t, w.random(200))
	upstream, stop, err := startUpstream()
	must(t, err)
	defer stop()
	dir := t.TempDir()
	bin, err := lab.Bin()
	if err != nil {
		t.Fatal(err)
	}
	peers, _, err := peer.Build(t.Context(), []string{"coredns"}, func(name string) { t.Log("build", name) })
	if err != nil {
		t.Fatal(err)
	}
	servers := programs{nodelet: filepath.Join(bin, "nodelet"), coreDNS: filepath.Join(peers, "coredns")}
	ours, err := servers.startNodelet(dir, api, upstream)
	must(t, err)
	defer ours.Stop()
	core, err := servers.startCoreDNS(dir, api, upstream, "")
	must(t, err)
	defer core.Stop()

	meant, unexplained := map[string]int{}, 0
	for range *questions {
		q := w.question()
		network := of(w.rnd, "udp", "udp", "tcp")
		a, err := ask(network, coreAddr, q.Name, q.Qtype)
		must(t, err)
		b, err := ask(network, nodeletAddr, q.Name, q.Qtype)
		must(t, err)
		want, got := normal(a), normal(b)
		if want == got {
			continue
		}
		if i := slices.IndexFunc(known, func(k struct {
			why string
			is  func(q dns.Question, core, ours *dns.Msg) bool
		}) bool {
			return k.is(q, a, b)
		}); i >= 0 {
			meant[known[i].why]++
			continue
		}
		if unexplained++; unexplained <= 10 {
			t.Errorf("%s %s over %s\nCoreDNS:\n%s\nnodelet:\n%s", dns.TypeToString[q.Qtype], q.Name, network, want, got)
		}
	}
	if unexplained > 10 {
		t.Errorf("and %d more", unexplained-10)
	}
	for why, n := range meant {
		t.Logf("%4d of %d: %s", n, *questions, why)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// question makes a random one, mostly about what is there.
func (w *world) question() dns.Question {
	r := w.rnd
	svc := of(r, w.services...)
	if r.IntN(6) == 0 {
		svc = of(r, "nope.default", "svc-1.nope", "*.ns-0", "svc-1.*", "kubernetes.default")
	}
	name := ""
	switch r.IntN(12) {
	case 0, 1, 2, 3:
		name = svc + ".svc"
	case 4, 5:
		name = of(r, "_http._tcp.", "_http._udp.", "_http._sctp.", "_dns._udp.", "_dns._tcp.", "_metrics._tcp.", "_nope._tcp.", "http.tcp.", "_._tcp.", "_HTTP._TCP.") + svc + ".svc"
	case 6:
		host := of(r, w.hosts...)
		if r.IntN(2) == 0 {
			host = strings.NewReplacer(".", "-", ":", "-").Replace(of(r, w.addrs...))
		}
		name = host + "." + svc + ".svc"
	case 7:
		name = of(r, "10-244-0-5", "fd00--5", "1-2-3", "nope", "10-244-0-256", "::1", "10-244-0-05") + "." + of(r, append(w.namespaces, "nope")...) + ".pod"
	case 8:
		name = of(r, append(w.namespaces, "nope", "*")...) + of(r, ".svc", ".pod")
	case 9:
		reverse, err := dns.ReverseAddr(of(r, append(w.addrs, "10.96.0.1", "192.0.2.200")...))
		if err == nil {
			return dns.Question{Name: reverse, Qtype: of(r, dns.TypePTR, dns.TypePTR, dns.TypePTR, dns.TypeA)}
		}
	case 10:
		name = of(r, "svc", "pod", "x", "a.b", "dns-version", "x.y.svc.z", "a.b.c.d.e.f.svc", "x.10-0-0-1.default.pod", "_nodelet", "")
	default:
		return dns.Question{Name: of(r, "www.example.com.", "nope.invalid.", "example.com.", svc+".svc.cluster.local.example.com."), Qtype: of(r, dns.TypeA, dns.TypeAAAA)}
	}
	full := strings.TrimPrefix(name+".cluster.local.", ".")
	if r.IntN(5) == 0 {
		full = randomCase(r, full)
	}
	return dns.Question{Name: full, Qtype: of(r, dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeAAAA, dns.TypeSRV, dns.TypeSRV, dns.TypeCNAME, dns.TypeTXT, dns.TypeMX, dns.TypeNS, dns.TypeSOA, dns.TypePTR, dns.TypeHTTPS)}
}

func randomCase(r *rand.Rand, s string) string {
	b := []byte(s)
	for i := range b {
		if r.IntN(2) == 0 && b[i] >= 'a' && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

// normal prints a reply without what may differ between two right ones: order, serial, case of owners, TTLs of upstream's records.
func normal(m *dns.Msg) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s aa=%t tc=%t\n", dns.RcodeToString[m.Rcode], m.Authoritative, m.Truncated)
	for _, s := range []struct {
		name string
		list []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"extra", m.Extra}} {
		var lines []string
		for _, rr := range s.list {
			if rr.Header().Rrtype == dns.TypeOPT {
				continue
			}
			rr = dns.Copy(rr)
			rr.Header().Name = strings.ToLower(rr.Header().Name)
			if !strings.HasSuffix(rr.Header().Name, "cluster.local.") && !strings.HasSuffix(rr.Header().Name, ".arpa.") {
				rr.Header().Ttl = 0
			}
			if soa, ok := rr.(*dns.SOA); ok {
				soa.Serial = 0
			}
			lines = append(lines, strings.ToLower(rr.String()))
		}
		slices.Sort(lines)
		for _, l := range slices.Compact(lines) {
			fmt.Fprintf(&b, "  %s %s\n", s.name, l)
		}
	}
	return b.String()
}
