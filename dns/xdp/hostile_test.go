package xdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"nodelet/dns/wire"
	"nodelet/dns/zone"
	"nodelet/dns/zone/zonetest"
	"nodelet/internal/model"
)

const objects = `
service default/web ClusterIP 10.96.0.5,fd00:96::5 http:80/TCP
service default/db Headless pg:5432/TCP
slice default/db-a db pg:5432/TCP 10.244.0.5[host=db-0] 10.244.0.6[host=db-1] 10.244.0.7
`

func smallAnswerer(t testing.TB) *Answerer {
	w := zonetest.Parse(t, objects)
	return newAnswerer(t, newZone(t, zonetest.ParseSetting(t, ""), w))
}

func question(t testing.TB, name string, qtype uint16) []byte {
	t.Helper()
	b, err := new(dns.Msg).SetQuestion(name, qtype).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestNotUnderstood: whatever is not a plain question is passed on as it came.
func TestNotUnderstood(t *testing.T) {
	a := smallAnswerer(t)
	good := question(t, "web.default.svc.cluster.local.", dns.TypeA)
	if ret, _ := run(t, a, frame(good, true)); ret != tx {
		t.Fatalf("the plain question is not answered: %d", ret)
	}
	edit := func(f func(b []byte)) func() []byte {
		return func() []byte { b := frame(good, true); f(b); return b }
	}
	message := func(f func(b []byte) []byte) func() []byte {
		return func() []byte { return frame(f(bytes.Clone(good)), true) }
	}
	opt := func(raw ...byte) func(b []byte) []byte {
		return func(b []byte) []byte { b[11] = 1; return append(b, raw...) }
	}
	for name, make := range map[string]func() []byte{
		"VLAN":               func() []byte { b := frame(good, true); return slices.Concat(b[:12], []byte{0x81, 0, 0, 7}, b[12:]) },
		"IPv6 type":          edit(func(b []byte) { b[12], b[13] = 0x86, 0xdd }),
		"to many":            edit(func(b []byte) { b[0] |= 1 }),
		"IP options":         edit(func(b []byte) { b[14] = 0x46 }),
		"first fragment":     edit(func(b []byte) { b[20] = 0x20 }),
		"last fragment":      edit(func(b []byte) { b[21] = 9 }),
		"TCP":                edit(func(b []byte) { b[23] = 6 }),
		"other server":       edit(func(b []byte) { b[33]++ }),
		"other port":         edit(func(b []byte) { b[37]++ }),
		"from port 0":        edit(func(b []byte) { b[34], b[35] = 0, 0 }),
		"IP length":          edit(func(b []byte) { b[17]-- }),
		"UDP length":         edit(func(b []byte) { b[39]-- }),
		"padding":            func() []byte { return append(frame(good, true), 0, 0) },
		"a reply":            edit(func(b []byte) { b[44] |= 0x80 }),
		"NOTIFY":             edit(func(b []byte) { b[44] |= 4 << 3 }),
		"no question":        edit(func(b []byte) { b[47] = 0 }),
		"two questions":      edit(func(b []byte) { b[47] = 2 }),
		"an answer":          edit(func(b []byte) { b[49] = 1 }),
		"an authority":       edit(func(b []byte) { b[51] = 1 }),
		"missing additional": edit(func(b []byte) { b[53] = 1 }),
		"class CH":           message(func(b []byte) []byte { b[len(b)-1] = 3; return b }),
		"class ANY":          message(func(b []byte) []byte { b[len(b)-1] = 255; return b }),
		"trailing byte":      message(func(b []byte) []byte { return append(b, 0) }),
		"cut in the class":   message(func(b []byte) []byte { return b[:len(b)-1] }),
		"cut in the name":    message(func(b []byte) []byte { return b[:len(b)-9] }),
		"pointer":            message(func(b []byte) []byte { b[12], b[13] = 0xc0, 12; return b }),
		"pointer at the end": message(func(b []byte) []byte { b[len(b)-5] = 0xc0; return b }),
		"long label":         message(func(b []byte) []byte { b[12] = 64; return b }),
		"EDNS version 1":     message(opt(0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0)),
		"OPT cut":            message(opt(0, 0, 41, 4, 208, 0, 0, 0, 0, 0)),
		"OPT data missing":   message(opt(0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4)),
		"OPT with owner":     message(opt(1, 'a', 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)),
		"TSIG":               message(opt(0, 0, 250, 4, 208, 0, 0, 0, 0, 0, 0)),
	} {
		in := make()
		if ret, out := run(t, a, in); ret != pass || !bytes.Equal(in, out) {
			t.Errorf("%s: the program returns %d\n%x\n%x", name, ret, in, out)
		}
	}
	for _, name := range []string{
		"absent.default.svc.cluster.local.", "web.default.svc.cluster.local.default.svc.cluster.local.", ".", "cluster.local.", "www.example.com.",
		strings.Repeat("a.", 12) + "web.default.svc.cluster.local.", strings.Repeat(strings.Repeat("a", 60)+".", 3) + "cluster.local.",
	} {
		in := frame(question(t, name, dns.TypeA), true)
		if ret, out := run(t, a, in); ret != pass || !bytes.Equal(in, out) {
			t.Errorf("%s: the program returns %d", name, ret)
		}
	}
	for _, qtype := range []uint16{dns.TypeANY, dns.TypeAXFR, dns.TypeIXFR, dns.TypeOPT, dns.TypeCNAME, dns.TypeSOA, dns.TypeNS, dns.TypePTR, 0, 65535} {
		if ret, _ := run(t, a, frame(question(t, "web.default.svc.cluster.local.", qtype), true)); ret != pass {
			t.Errorf("type %d: the program returns %d", qtype, ret)
		}
	}
}

// FuzzProgram: on no packet does the program fail, and what it answers the zone
// answers too, byte by byte.
func FuzzProgram(f *testing.F) {
	a := smallAnswerer(f)
	for _, name := range []string{"web.default.svc.cluster.local.", "_http._tcp.web.default.svc.cluster.local.", "db-0.db.default.svc.cluster.local.", "db.default.svc.cluster.local."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
			m := new(dns.Msg).SetQuestion(name, qtype)
			for _, v := range variants(m) {
				b, err := v.Pack()
				if err != nil {
					f.Fatal(err)
				}
				f.Add(frame(b, true))
			}
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 14 || len(in) > 1500 {
			return // no frame
		}
		if len(in) >= 40 { // lengths that fit get further
			binary.BigEndian.PutUint16(in[16:], uint16(len(in)-14))
			binary.BigEndian.PutUint16(in[38:], uint16(len(in)-34))
		}
		ret, out := run(t, a, in)
		switch ret {
		case pass:
			if !bytes.Equal(in, out) {
				t.Fatalf("passed on, but changed:\n%x\n%x", in, out)
			}
		case tx:
			var q wire.Query
			if v := q.Parse(in[42:]); v != wire.Accept {
				t.Fatalf("answered what the server does not accept (%d):\n%x", v, in)
			}
			if want := replies(a.zone, &q); !slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(w, out[42:]) }) {
				t.Fatalf("answers differ:\n%x\n%x", want, out[42:])
			}
		default:
			t.Fatalf("the program returns %d for\n%x", ret, in)
		}
	})
}

// TestFollowsTheZone: after each change the program answers as the zone does,
// with maps that are changed and with those that are made anew for want of room.
func TestFollowsTheZone(t *testing.T) {
	w := zonetest.Parse(t, objects)
	z := newZone(t, zonetest.ParseSetting(t, ""), w)
	a := newAnswerer(t, z)
	ask := func(name string, qtype uint16, answered bool) {
		t.Helper()
		packet := question(t, name, qtype)
		if n := compare(t, a, packet, name); (n == 1) != answered {
			t.Errorf("%s: answered by the program: %t", name, n == 1)
		}
	}
	step := func(change func()) {
		t.Helper()
		change()
		z = z.Advance(zone.InputOf(w.Store.Snapshot()))
		if err := a.Apply(z); err != nil {
			t.Fatal(err)
		}
	}
	key := func(name string) model.Key { return model.Key{Namespace: "default", Name: name} }
	service := func(name string, last byte) {
		w.Writers.Services.Set(key(name), &model.Service{
			Key: key(name), ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 1, last})}, Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
		})
	}
	ask("new.default.svc.cluster.local.", dns.TypeA, false)
	step(func() { service("new", 1) })
	ask("new.default.svc.cluster.local.", dns.TypeA, true)
	ask("new.default.svc.cluster.local.", dns.TypeAAAA, true) // NODATA, with the new serial
	ask("_http._tcp.new.default.svc.cluster.local.", dns.TypeSRV, true)
	step(func() { service("new", 2) })
	ask("new.default.svc.cluster.local.", dns.TypeA, true)
	step(func() { w.Writers.Services.Delete(key("new")) })
	ask("new.default.svc.cluster.local.", dns.TypeA, false)
	ask("_http._tcp.new.default.svc.cluster.local.", dns.TypeSRV, false)
	step(func() { w.Writers.Slices.Delete(key("db-a")) })
	ask("db.default.svc.cluster.local.", dns.TypeA, false) // without endpoints the name does not exist
	ask("db-0.db.default.svc.cluster.local.", dns.TypeA, false)

	for i := range spareSlots { // two names each: more than there is room for
		step(func() { service(fmt.Sprintf("s%d", i), byte(i)) })
	}
	ask("s0.default.svc.cluster.local.", dns.TypeA, true)
	ask(fmt.Sprintf("s%d.default.svc.cluster.local.", spareSlots-1), dns.TypeA, true)
	if a.kernel.names.capacity <= spareSlots+16 {
		t.Errorf("still %d slots", a.kernel.names.capacity)
	}
	if n := a.Counts()["A"]; n < 4 {
		t.Errorf("%d answers counted: counters begin anew with new maps", n)
	}
}
