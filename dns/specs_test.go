package dns

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestCorefilesOfUpstreamsSpecs goes through what the three specs
// "[sig-network] DNS configMap nameserver" do to the ConfigMap, and asks what
// they ask (test/e2e/network/dns_configmap.go of v1.36.3), but for names of the
// Internet. The specs themselves begin with finding a pod of CoreDNS.
func TestCorefilesOfUpstreamsSpecs(t *testing.T) {
	records := map[string]string{
		"abc.acme.local. A": "1.1.1.1", "widget.local. A": "3.3.3.3", "foo.example.com. A": "192.0.2.123", "123.2.0.192.in-addr.arpa. PTR": "my.test.",
	}
	theirs := newScript(t, func(w dns.ResponseWriter, m *dns.Msg) {
		q, r := m.Question[0], new(dns.Msg).SetReply(m)
		key := strings.ToLower(q.Name) + " " + dns.TypeToString[q.Qtype]
		if data, ok := records[key]; ok {
			rr, err := dns.NewRR(fmt.Sprintf("%s 60 IN %s %s", q.Name, dns.TypeToString[q.Qtype], data))
			if err != nil {
				panic(err)
			}
			r.Answer = append(r.Answer, rr)
		} else {
			r.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(r)
	})
	host := newScript(t, code(dns.RcodeNameError, true))
	at := func(u *script) string { return strings.Split(u.addr.String(), ":")[0] + ":10053" }
	s := startConfigured(t, external("default/outside", "foo.example.com"))
	before := fmt.Sprintf(".:53 {\n kubernetes cluster.local in-addr.arpa ip6.arpa {\n pods insecure\n fallthrough in-addr.arpa ip6.arpa\n }\n forward . %s\n}\n", at(host))
	s.load(before)
	expect(t, s.ask(t, "udp", "abc.acme.local", dns.TypeA), "NXDOMAIN")

	s.load(fmt.Sprintf(`.:53 {
        health
        ready
        kubernetes cluster.local in-addr.arpa ip6.arpa {
           pods insecure
           fallthrough in-addr.arpa ip6.arpa
           ttl 30
        }
        forward . %[1]s
    }
     acme.local:53 {
       forward . %[1]s
    }`, at(theirs)))
	if err := s.Health().Error; err != "" {
		t.Fatalf("status says %q", err)
	}
	expect(t, s.ask(t, "udp", "abc.acme.local", dns.TypeA), "NOERROR 1.1.1.1")
	expect(t, s.ask(t, "udp", "widget.local", dns.TypeA), "NOERROR 3.3.3.3")
	if m := s.ask(t, "udp", "123.2.0.192.in-addr.arpa", dns.TypePTR); len(m.Answer) != 1 || m.Answer[0].(*dns.PTR).Ptr != "my.test." {
		t.Errorf("PTR is not forwarded:\n%s", m)
	}
	m := s.ask(t, "udp", "outside.default.svc.cluster.local", dns.TypeA)
	if len(m.Answer) != 2 || m.Answer[0].(*dns.CNAME).Target != "foo.example.com." || m.Answer[1].(*dns.A).A.String() != "192.0.2.123" {
		t.Errorf("ExternalName does not lead to the resolver of the Corefile:\n%s", m)
	}

	s.load(before)
	expect(t, s.ask(t, "udp", "abc.acme.local", dns.TypeA), "NXDOMAIN")
	expect(t, s.ask(t, "udp", "123.2.0.192.in-addr.arpa", dns.TypePTR), "NXDOMAIN")
}
