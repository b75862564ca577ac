package zone

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
	"nodelet/dns/zone/zonetest"
	"nodelet/internal/golden"
)

func testConfig() Config {
	return Config{Domain: "cluster.local", TTL: 5, Servers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}
}

// TestGolden answers the questions of each archive from its objects.
func TestGolden(t *testing.T) { golden.Run(t, "testdata/*.txtar", runGolden) }

func runGolden(t *golden.Case) {
	set := zonetest.ParseSetting(t.T, t.Section("config"))
	c := testConfig()
	c.Domain = set.Domain
	var err error
	if c.Pods, err = ParsePodMode(set.Pods); err != nil {
		t.Fatal(err)
	}
	w := zonetest.New()
	if !set.Unsynced {
		w = zonetest.Parse(t.T, t.Section("objects"))
	}
	z, err := Build(c, InputOf(w.Store.Snapshot()))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line, q := range zonetest.Questions(t.T, t.Section("ask")) {
		fmt.Fprintf(&got, "? %s\n%s\n", line, ask(t.T, z, q))
	}
	t.Want("answers", got.String())
	if t.Failed() {
		t.Log(z)
	}
}

// ask sends one question through wire and zone and prints what came back.
func ask(t *testing.T, z *Zone, question zonetest.Question) string {
	t.Helper()
	m := question.Msg
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if v := q.Parse(packet); v != wire.Accept {
		t.Fatalf("%s: query not accepted: %d", m.Question[0].String(), v)
	}
	o := Options{Limit: q.Limit(question.TCP), Turn: question.Turn}
	r := z.Answer(nil, &q, o)
	return printReply(t, m, r, o.Limit)
}

func printReply(t *testing.T, m *dns.Msg, r Reply, limit int) string {
	t.Helper()
	switch r.Outcome {
	case NotMine:
		return "not mine\n"
	case Chase:
		target, _, err := dns.UnpackDomainName(r.Target, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("chase %s after %d CNAME\n", target, r.CNAMEs)
	}
	if len(r.Msg) > limit {
		t.Errorf("reply of %d bytes, limit is %d", len(r.Msg), limit)
	}
	var got dns.Msg
	if err := got.Unpack(r.Msg); err != nil {
		t.Fatalf("%s: reply does not unpack: %v\n%x", m.Question[0].String(), err, r.Msg)
	}
	if got.Id != m.Id || got.Question[0] != m.Question[0] || !got.Response {
		t.Errorf("reply does not fit the query:\n%s\n%s", m, &got)
	}
	if got.Rcode != int(r.Rcode) {
		t.Errorf("rcode in message is %d, reported %s", got.Rcode, r.Rcode)
	}
	var b strings.Builder
	b.WriteString(dns.RcodeToString[got.Rcode])
	if got.Authoritative {
		b.WriteString(" aa")
	}
	if got.Truncated {
		b.WriteString(" tc")
	}
	b.WriteString("\n")
	for _, s := range []struct {
		name string
		list []dns.RR
	}{{"", got.Answer}, {"authority ", got.Ns}, {"extra ", got.Extra}} {
		for _, rr := range s.list {
			if opt, ok := rr.(*dns.OPT); ok {
				fmt.Fprintf(&b, "%sopt size=%d do=%t\n", s.name, opt.UDPSize(), opt.Do())
				continue
			}
			fmt.Fprintf(&b, "%s%s\n", s.name, strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	return b.String()
}
