package dns

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
)

// FuzzUpstreamReply: whatever a resolver sends, what comes out for the client
// is a reply to its question, within its limit, or nothing.
func FuzzUpstreamReply(f *testing.F) {
	add := func(name string, change func(*dns.Msg)) {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		m.Response = true
		for _, text := range []string{"www.example.com. 60 IN CNAME a.example.com.", "a.example.com. 5 IN A 192.0.2.1", "example.com. 1 IN SOA a. b. 1 2 3 4 5"} {
			rr, err := dns.NewRR(text)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		change(m)
		m.Compress = true
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add("www.example.com.", func(*dns.Msg) {})
	add("www.example.com.", func(m *dns.Msg) { m.SetEdns0(4096, true); m.Rcode = dns.RcodeBadVers })
	add("www.example.com.", func(m *dns.Msg) { m.Ns, m.Answer = m.Answer[2:], nil; m.Rcode = dns.RcodeNameError })
	keep := keeping{success: time.Minute, denial: time.Minute, prefetchHits: 2, prefetchPart: 10, stale: time.Hour}
	now := time.Now()
	f.Fuzz(func(t *testing.T, packet []byte) {
		var reply dns.Msg
		if reply.Unpack(packet) != nil {
			return
		}
		var q wire.Query
		q.Set([]byte("\x03www\x07example\x03com\x00"), wire.TypeA)
		m, err := pack(&reply, &q, keep, now)
		if err != nil {
			return
		}
		asker := new(dns.Msg)
		asker.SetQuestion("WWW.example.com.", dns.TypeA)
		asker.SetEdns0(1232, true)
		b, err := asker.Pack()
		if err != nil || q.Parse(b) != wire.Accept {
			t.Fatal("the asker's own query is bad")
		}
		for _, limit := range []int{q.Limit(false), wire.MaxTCP} {
			out := m.append(nil, &q, fit{limit, now.Add(3 * time.Second)})
			var got dns.Msg
			if err := got.Unpack(out); err != nil || len(out) > limit {
				t.Fatalf("%d bytes, limit %d: %v\n%x", len(out), limit, err, out)
			}
			if got.Id != asker.Id || got.Question[0] != asker.Question[0] || len(got.Extra) == 0 {
				t.Fatalf("not a reply to the question:\n%s", &got)
			}
		}
		c := chase{}
		c.target.Set([]byte("\x03www\x07example\x03com\x00"), wire.TypeA)
		c.head = wire.Status(nil, &q, wire.Success)
		out := c.join(&q, m, fit{wire.MaxTCP, now})
		var got dns.Msg
		if err := got.Unpack(out); err != nil {
			t.Fatalf("joined: %v\n%x", err, out)
		}
	})
}
