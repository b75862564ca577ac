package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func query(name string, qtype uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, qtype) }

func TestParse(t *testing.T) {
	var q Query
	m := query("WWW.Example.com.", dns.TypeAAAA)
	m.SetEdns0(4096, true)
	if v := q.Parse(pack(t, m)); v != Accept {
		t.Fatalf("verdict %d", v)
	}
	if string(q.Name()) != "\x03www\x07example\x03com\x00" || q.Labels() != 3 || q.Type != TypeAAAA || q.Class != ClassIN {
		t.Errorf("parsed %q %d labels type %s class %d", q.Name(), q.Labels(), q.Type, q.Class)
	}
	if string(q.Label(1)) != "example" || string(q.From(2)) != "\x03com\x00" || string(q.Between(0, 1)) != "\x03www" || string(q.From(3)) != "\x00" {
		t.Errorf("labels %q %q %q", q.Label(1), q.From(2), q.Between(0, 1))
	}
	if !bytes.HasPrefix(q.Question(), []byte("\x03WWW\x07Example\x03com\x00")) {
		t.Errorf("question %q lost its case", q.Question())
	}
	if !q.EDNS || !q.DO || q.UDPSize != 4096 || q.Limit(false) != MaxUDP || q.Limit(true) != MaxTCP {
		t.Errorf("edns %t do %t size %d limit %d", q.EDNS, q.DO, q.UDPSize, q.Limit(false))
	}
}

func TestVerdicts(t *testing.T) {
	good := pack(t, query("a.b.", dns.TypeA))
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	withOpt := func(f func(o *dns.OPT)) []byte {
		m := query("a.b.", dns.TypeA)
		m.SetEdns0(512, false)
		f(m.IsEdns0())
		return pack(t, m)
	}
	long := strings.Repeat("\x3faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 4) + "\x00"
	for name, c := range map[string]struct {
		packet []byte
		want   Verdict
	}{
		"good":              {good, Accept},
		"root":              {pack(t, query(".", dns.TypeNS)), Accept},
		"empty":             {nil, Drop},
		"eleven bytes":      {good[:11], Drop},
		"response":          {edit(func(b []byte) []byte { b[2] |= 0x80; return b }), Drop},
		"update":            {edit(func(b []byte) []byte { b[2] |= 5 << 3; return b }), RejectOpcode},
		"header only":       {good[:12], RejectFormat},
		"no question":       {edit(func(b []byte) []byte { b[5] = 0; return b }), RejectFormat},
		"two questions":     {edit(func(b []byte) []byte { b[5] = 2; return b }), RejectFormat},
		"cut in the name":   {good[:14], RejectFormat},
		"cut in the type":   {good[:len(good)-3], RejectFormat},
		"pointer":           {edit(func(b []byte) []byte { b[12], b[13] = 0xC0, 12; return b }), RejectFormat},
		"reserved label":    {edit(func(b []byte) []byte { b[12] = 0x40; return b }), RejectFormat},
		"name of 257 bytes": {edit(func(b []byte) []byte { return append(append(b[:12], long...), 0, 1, 0, 1) }), RejectFormat},
		"answers promised":  {edit(func(b []byte) []byte { b[7] = 1; return b }), RejectFormat},
		"opt cut":           {withOpt(func(*dns.OPT) {})[:len(good)+6], RejectFormat},
		"edns version 1":    {withOpt(func(o *dns.OPT) { o.SetVersion(1) }), RejectVersion},
		"cookie": {withOpt(func(o *dns.OPT) {
			o.Option = append(o.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "24a5ac1223344556"})
		}), Accept},
		"trailing bytes": {edit(func(b []byte) []byte { return append(b, 1, 2, 3) }), Accept},
	} {
		var q Query
		if got := q.Parse(c.packet); got != c.want {
			t.Errorf("%s: verdict %d, want %d", name, got, c.want)
		}
	}
	two := query("a.b.", dns.TypeA)
	two.SetEdns0(512, false)
	two.SetEdns0(512, false)
	var q Query
	if got := q.Parse(pack(t, two)); len(two.Extra) == 2 && got != RejectFormat {
		t.Errorf("two OPT records: verdict %d", got)
	}
}

func TestReject(t *testing.T) {
	for v, want := range map[Verdict]int{RejectFormat: dns.RcodeFormatError, RejectOpcode: dns.RcodeNotImplemented, RejectVersion: dns.RcodeBadVers} {
		m := query("a.b.", dns.TypeA)
		m.SetEdns0(512, false)
		m.IsEdns0().SetVersion(1)
		var q Query
		packet := pack(t, m)
		q.Parse(packet)
		reply := Reject(nil, &q, v)
		var got dns.Msg
		if err := got.Unpack(reply); err != nil {
			t.Fatalf("%d: %v", v, err)
		}
		if got.Rcode != want || got.Id != m.Id || !got.Response || len(reply) > len(packet) {
			t.Errorf("%d: got rcode %d in %d bytes for %d\n%s", v, got.Rcode, len(reply), len(packet), &got)
		}
	}
}

// TestFinishCuts: whatever the limit, a reply fits it, unpacks, and has TC
// exactly when an answer or authority record is missing.
func TestFinishCuts(t *testing.T) {
	m := query("a.example.", dns.TypeA)
	m.SetEdns0(1232, false)
	var q Query
	if v := q.Parse(pack(t, m)); v != Accept {
		t.Fatal(v)
	}
	for limit := q.End() + OptLen; limit < 200; limit++ {
		msg := Begin(nil, &q, FlagAA, Success)
		for range 3 {
			msg = append(AppendRR(msg, HeaderLen, RR{Type: TypeA, TTL: 5, Size: 4}), 192, 0, 2, 1)
		}
		msg = append(AppendNamedRR(msg, []byte("\x01b\x00"), RR{Type: TypeA, TTL: 5, Size: 4}), 192, 0, 2, 2)
		msg = Finish(msg, &q, Counts{Answer: 2, Authority: 1, Extra: 1}, limit)
		var got dns.Msg
		if err := got.Unpack(msg); err != nil {
			t.Fatalf("limit %d: %v", limit, err)
		}
		if len(msg) > limit || got.IsEdns0() == nil {
			t.Errorf("limit %d: %d bytes\n%s", limit, len(msg), &got)
		}
		if missing := len(got.Answer)+len(got.Ns) < 3; got.Truncated != missing {
			t.Errorf("limit %d: TC is %t\n%s", limit, got.Truncated, &got)
		}
	}
}

func TestSetIsParse(t *testing.T) {
	var parsed, set Query
	m := query("www.example.com.", dns.TypeA)
	m.Id = 0
	parsed.Parse(pack(t, m))
	set.Set([]byte("\x03www\x07example\x03com\x00"), TypeA)
	if parsed != set {
		t.Errorf("Set gives another query than Parse:\n%+v\n%+v", set, parsed)
	}
}

// FuzzParse: no packet makes Parse or the replies misbehave, and what is
// accepted is what miekg/dns reads out of the same bytes.
func FuzzParse(f *testing.F) {
	m := query("WWW.example.com.", dns.TypeA)
	f.Add(pack(f, m))
	m.SetEdns0(4096, true)
	f.Add(pack(f, m))
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		q := new(Query)
		switch v := q.Parse(packet); v {
		case Drop:
			return
		case Accept:
		default:
			reply := Reject(nil, q, v)
			if len(reply) > max(len(packet), HeaderLen) && v != RejectVersion {
				t.Fatalf("reply of %d bytes to %d", len(reply), len(packet))
			}
			return
		}
		var ref dns.Msg
		if err := ref.Unpack(packet); err == nil && len(ref.Question) == 1 {
			name, _, err := dns.UnpackDomainName(q.Name(), 0)
			if err != nil || name != strings.ToLower(ref.Question[0].Name) || uint16(q.Type) != ref.Question[0].Qtype {
				t.Fatalf("read %q %s, miekg/dns reads %v (%v)", name, q.Type, ref.Question[0], err)
			}
		}
		for i := range q.Labels() {
			if len(q.Label(i)) == 0 || len(q.From(i)) < 2 {
				t.Fatalf("label %d of %q", i, q.Name())
			}
		}
		reply := Status(nil, q, ServFail)
		var got dns.Msg
		if err := got.Unpack(reply); err != nil {
			t.Fatalf("reply does not unpack: %v", err)
		}
	})
}
