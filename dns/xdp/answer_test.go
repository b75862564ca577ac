package xdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"nodelet/dns/wire"
	"nodelet/dns/zone"
	"nodelet/dns/zone/zonetest"
	"nodelet/internal/golden"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var server, client = netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("10.244.0.5")

// What XDP programs return.
const (
	aborted = 0
	pass    = 2
	tx      = 3
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newAnswerer(t testing.TB, z *zone.Zone) *Answerer {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads an eBPF program")
	}
	a, err := New(Config{Servers: []netip.Addr{netip.MustParseAddr("fd00::10"), server}, Port: 53}, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	k, err := a.load(z) // without devices
	if err != nil {
		t.Fatal(err)
	}
	a.kernel, a.zone = k, z
	return a
}

func newZone(t testing.TB, set zonetest.Setting, w *zonetest.World) *zone.Zone {
	t.Helper()
	c := zone.Config{Domain: set.Domain, TTL: 5, Servers: []netip.Addr{server}}
	var err error
	if c.Pods, err = zone.ParsePodMode(set.Pods); err != nil {
		t.Fatal(err)
	}
	z, err := zone.Build(c, zone.InputOf(w.Store.Snapshot()))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func sum(words []byte, begin uint32) uint16 {
	for i := 0; i < len(words); i += 2 {
		if i+1 == len(words) {
			begin += uint32(words[i]) << 8
		} else {
			begin += uint32(binary.BigEndian.Uint16(words[i:]))
		}
	}
	for begin>>16 != 0 {
		begin = begin&0xffff + begin>>16
	}
	return uint16(begin)
}

// frame is an Ethernet frame with a question, with a whole checksum or, as it
// is on the way from a pod, with that of the pseudo header only.
func frame(payload []byte, partial bool) []byte {
	src, dst := client.As4(), server.As4()
	udp := binary.BigEndian.AppendUint16(nil, 40000)
	udp = binary.BigEndian.AppendUint16(udp, 53)
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(payload)))
	udp = append(append(udp, 0, 0), payload...)
	check := sum(slices.Concat(src[:], dst[:], []byte{0, 17}, udp[4:6]), 0)
	if !partial {
		check = ^sum(udp, uint32(check))
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	ip := []byte{0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0}
	ip = append(append(ip, src[:]...), dst[:]...)
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(udp)))
	binary.BigEndian.PutUint16(ip[10:], ^sum(ip, 0))
	return slices.Concat([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}, ip, udp)
}

// run gives what the program does with a frame, and the frame after it.
func run(t testing.TB, a *Answerer, in []byte) (uint32, []byte) {
	t.Helper()
	return runOn(t, a, in)
}

// failer is what tests and single checks of a property have in common.
type failer interface{ Fatal(args ...any) }

func runOn(t failer, a *Answerer, in []byte) (uint32, []byte) {
	opts := ebpf.RunOptions{Data: in, DataOut: make([]byte, 2048), Repeat: 1}
	ret, err := a.kernel.objects.Answer.Run(&opts)
	if err != nil {
		t.Fatal(err)
	}
	return ret, opts.DataOut
}

// checkHeaders looks at all of a reply but its message.
func checkHeaders(t testing.TB, in, out []byte, partial bool) {
	t.Helper()
	if !bytes.Equal(out[0:6], in[6:12]) || !bytes.Equal(out[6:12], in[0:6]) || !bytes.Equal(out[26:30], in[30:34]) || !bytes.Equal(out[30:34], in[26:30]) ||
		!bytes.Equal(out[34:36], in[36:38]) || !bytes.Equal(out[36:38], in[34:36]) {
		t.Errorf("the reply goes astray:\n%x\n%x", in[:42], out[:42])
	}
	if n := int(binary.BigEndian.Uint16(out[16:])); n != len(out)-14 || int(binary.BigEndian.Uint16(out[38:])) != n-20 {
		t.Errorf("lengths of a frame of %d bytes: %x", len(out), out[:42])
	}
	if sum(out[14:34], 0) != 0xffff {
		t.Errorf("sum of the IP header %x", out[14:34])
	}
	want := uint16(0)
	if partial {
		want = sum(slices.Concat(out[26:34], []byte{0, 17}, out[38:40]), 0)
	}
	if got := binary.BigEndian.Uint16(out[40:]); got != want {
		t.Errorf("UDP sum %#x, want %#x", got, want)
	}
}

// variants are the ways in which clients ask one question.
func variants(m *dns.Msg) []*dns.Msg {
	out := []*dns.Msg{m}
	add := func(f func(m *dns.Msg)) {
		c := m.Copy()
		f(c)
		out = append(out, c)
	}
	if m.IsEdns0() == nil {
		add(func(m *dns.Msg) { m.SetEdns0(512, false) })
		add(func(m *dns.Msg) { m.SetEdns0(4096, true) })
		add(func(m *dns.Msg) {
			m.SetEdns0(100, false)
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"}, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		})
	}
	add(func(m *dns.Msg) { m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = false, true, true })
	add(func(m *dns.Msg) { m.Question[0].Name = mixed(m.Question[0].Name) })
	return out
}

// mixed is a name as clients with 0x20 write it.
func mixed(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && rand.N(2) == 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// replies are all that the zone may answer: it turns lists round.
func replies(z *zone.Zone, q *wire.Query) [][]byte {
	first := z.Answer(nil, q, zone.Options{Limit: q.Limit(false)})
	if first.Outcome != zone.Answered {
		return nil
	}
	out := [][]byte{first.Msg}
	for turn := uint32(1); turn < 32; turn++ {
		msg := z.Answer(nil, q, zone.Options{Limit: q.Limit(false), Turn: turn}).Msg
		if bytes.Equal(msg, first.Msg) {
			break
		}
		out = append(out, msg)
	}
	return out
}

// TestGolden runs every archive of the zone through the program: what it
// answers has the bytes that the zone answers with, and it answers all that
// doc.go says it does.
func TestGolden(t *testing.T) {
	answered := 0
	golden.Run(t, "../zone/testdata/*.txtar", func(t *golden.Case) {
		set := zonetest.ParseSetting(t.T, t.Section("config"))
		w := zonetest.New()
		if !set.Unsynced {
			w = zonetest.Parse(t.T, t.Section("objects"))
		}
		z := newZone(t.T, set, w)
		a := newAnswerer(t.T, z)
		for line, question := range zonetest.Questions(t.T, t.Section("ask")) {
			for _, m := range variants(question.Msg) {
				packet, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				answered += compare(t.T, a, packet, line)
			}
		}
	})
	if answered < 200 {
		t.Errorf("the program answered %d questions: it passes nearly all on", answered)
	}
	t.Logf("%d answers", answered)
}

// compare asks the program and the zone, and gives the number of answers of the program.
func compare(t *testing.T, a *Answerer, packet []byte, line string) int {
	t.Helper()
	var q wire.Query
	if q.Parse(packet) != wire.Accept {
		t.Fatalf("%s: not accepted", line)
	}
	want := replies(a.zone, &q)
	partial := rand.N(2) == 0
	in := frame(packet, partial)
	ret, out := run(t, a, in)
	switch {
	case ret == pass && !bytes.Equal(in, out):
		t.Errorf("%s: passed on, but changed", line)
	case ret == pass && mustAnswer(a.zone, &q, want):
		t.Errorf("%s: not answered", line)
	case ret == pass:
		return 0
	case ret != tx:
		t.Errorf("%s: the program returns %d", line, ret)
	default:
		checkHeaders(t, in, out, partial)
		if !slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(w, out[42:]) }) {
			t.Errorf("%s: answers differ (-zone +program):\n%s", line, cmp.Diff(fmt.Sprintf("%x", want), fmt.Sprintf("%x", out[42:])))
		}
	}
	return 1
}

// mustAnswer says what the program has to answer, from the zone's own reply:
// what exists below svc and is small, but for what doc.go leaves out.
func mustAnswer(z *zone.Zone, q *wire.Query, want [][]byte) bool {
	if len(want) == 0 || len(q.Name()) > maxName || q.Class != wire.ClassIN {
		return false
	}
	switch q.Type {
	case wire.TypeA, wire.TypeAAAA, wire.TypeSRV, wire.TypeTXT, wire.TypeMX, wire.TypeHTTPS:
	default:
		return false
	}
	for key := range z.Keys() {
		for p := range z.Packed(key) {
			r := map[wire.Type]zone.Records{wire.TypeA: p.V4, wire.TypeAAAA: p.V6, wire.TypeSRV: p.SRV}[q.Type]
			if bytes.Equal(p.Name, q.Name()) && !r.Unpacked && len(p.V4.Data)+len(p.V6.Data)+len(p.SRV.Data) <= maxBody {
				return true
			}
		}
	}
	return false
}
