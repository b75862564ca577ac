package zone

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
	"nodelet/internal/golden"
)

func testConfig() Config {
	return Config{Domain: "cluster.local", TTL: 5, Servers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}}
}

// TestGolden answers the questions of each archive from its objects. A line of
// "ask" is "TYPE NAME [size=N] [edns] [tcp] [turn=N]".
func TestGolden(t *testing.T) { golden.Run(t, "testdata/*.txtar", runGolden) }

func runGolden(t *golden.Case) {
	c := testConfig()
	for o := range strings.SplitSeq(strings.TrimSpace(t.Section("config")), "\n") {
		switch key, value, _ := strings.Cut(o, "="); key {
		case "pods":
			var err error
			if c.Pods, err = ParsePodMode(value); err != nil {
				t.Fatal(err)
			}
		case "domain":
			c.Domain = value
		case "", "unsynced":
		default:
			t.Fatalf("unknown config %q", o)
		}
	}
	in := parseWorld(t.T, t.Section("objects")).input()
	if strings.Contains(t.Section("config"), "unsynced") {
		in = newWorld().input()
	}
	z, err := Build(c, in)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(t.Section("ask")) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		fmt.Fprintf(&got, "? %s\n%s\n", line, ask(t.T, z, line))
	}
	t.Want("answers", got.String())
	if t.Failed() {
		t.Log(z)
	}
}

// ask sends one question through wire and zone and prints what came back.
func ask(t *testing.T, z *Zone, line string) string {
	t.Helper()
	f := strings.Fields(line)
	qtype, ok := dns.StringToType[f[0]]
	if !ok {
		if _, err := fmt.Sscanf(f[0], "TYPE%d", &qtype); err != nil {
			t.Fatalf("unknown type %q", f[0])
		}
	}
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(f[1]), qtype)
	var tcp bool
	var o Options
	var size uint16
	for _, opt := range f[2:] {
		switch key, value, _ := strings.Cut(opt, "="); key {
		case "size":
			fmt.Sscan(value, &size)
			m.SetEdns0(size, false)
		case "tcp":
			tcp = true
		case "turn":
			fmt.Sscan(value, &o.Turn)
		default:
			t.Fatalf("unknown option %q", opt)
		}
	}
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if v := q.Parse(packet); v != wire.Accept {
		t.Fatalf("%s: query not accepted: %d", line, v)
	}
	o.Limit = q.Limit(tcp)
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
