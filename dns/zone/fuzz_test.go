package zone

import (
	"testing"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
	"nodelet/dns/zone/zonetest"
)

// FuzzAnswer: whatever is asked, the reply fits its limit and can be read.
func FuzzAnswer(f *testing.F) {
	for name := range map[string]bool{"web.default.svc.cluster.local.": true, "_http._tcp.db.default.svc.cluster.local.": true, "5.0.244.10.in-addr.arpa.": true, "10-1-2-3.default.pod.cluster.local.": true, "two.default.svc.cluster.local.": true} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeCNAME, dns.TypeSOA, dns.TypeNS, dns.TypeTXT} {
			m := new(dns.Msg).SetQuestion(name, qtype)
			m.SetEdns0(1232, false)
			b, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, uint32(1))
		}
	}
	w := zonetest.Parse(f, `
service default/web ClusterIP 10.96.0.5,fd00:96::5 http:80/TCP
slice default/web-a web http:8080/TCP 10.244.0.5 10.244.0.6
service default/db Headless http:5432/TCP
slice default/db-a db http:5432/TCP 10.244.0.5[host=db-0] 10.244.0.7
slice default/db-b db http:5432/TCP fd00::5[host=db-0]
service default/two ExternalName db.default.svc.cluster.local
service default/ext ExternalName www.example.com
`)
	z, err := Build(testConfig(), InputOf(w.Store.Snapshot()))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packet []byte, turn uint32) {
		var q wire.Query
		if q.Parse(packet) != wire.Accept {
			return
		}
		for _, limit := range []int{q.Limit(false), wire.MaxTCP} {
			r := z.Answer(nil, &q, Options{Limit: limit, Turn: turn})
			switch r.Outcome {
			case NotMine:
				continue
			case Chase:
				r.Msg = wire.Finish(r.Msg, &q, wire.Counts{Answer: r.CNAMEs}, limit)
			}
			var got dns.Msg
			if err := got.Unpack(r.Msg); err != nil || len(r.Msg) > limit {
				t.Fatalf("reply of %d bytes, limit %d: %v\n%x", len(r.Msg), limit, err, r.Msg)
			}
			if got.Id != q.ID || !got.Response || len(got.Question) != 1 {
				t.Fatalf("reply does not fit the query:\n%s", &got)
			}
		}
	})
}
