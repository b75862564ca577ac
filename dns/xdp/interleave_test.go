package xdp

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"nodelet/dns/wire"
	"nodelet/dns/zone"
	"nodelet/dns/zone/zonetest"
	"nodelet/internal/model"
)

// watched calls look after every single write to the maps.
type watched struct {
	writer
	look func()
}

func (w watched) putSlot(i uint32, s *answerSlot) error {
	defer w.look()
	return w.writer.putSlot(i, s)
}

func (w watched) putName(hash uint64, slot uint32) error {
	defer w.look()
	return w.writer.putName(hash, slot)
}

func (w watched) dropName(hash uint64) error {
	defer w.look()
	return w.writer.dropName(hash)
}

// asking is one question with what may be answered while a zone takes the place of another.
type asking struct {
	what   string
	packet []byte
	may    [][]byte
	// must: both zones have the name, so it is never missing.
	must bool
}

// newAsking gives the question of one name, before and after.
func newAsking(t *rapid.T, m *dns.Msg, old, next *zone.Zone) asking {
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q wire.Query
	if q.Parse(packet) != wire.Accept {
		t.Fatalf("%s is not accepted", m)
	}
	was, is := replies(old, &q), replies(next, &q)
	// The serial is written last: until then what is new has the old one.
	between := replies(next.At(old.Revision()), &q)
	return asking{
		what: m.Question[0].String(), packet: packet, may: slices.Concat(was, is, between),
		must: mustAnswer(old, &q, was) && mustAnswer(next, &q, is),
	}
}

// TestBetweenWrites runs the program after every single write to its maps: a
// packet that arrives there has the answer of the zone before or of the one
// after, whole, and a name that both have is never missing. No answer has the
// new serial before all names have their new answers.
func TestBetweenWrites(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads an eBPF program")
	}
	looks := 0
	rapid.Check(t, func(rt *rapid.T) {
		w := zonetest.Parse(t, objects)
		z := newZone(t, zonetest.ParseSetting(t, ""), w)
		a := newAnswerer(t, z)
		defer a.Close()
		for range rapid.IntRange(1, 6).Draw(rt, "changes") {
			for range rapid.IntRange(1, 3).Draw(rt, "objects at once") {
				change(rt, w)
			}
			next := z.Advance(zone.InputOf(w.Store.Snapshot()))
			var list []asking
			for _, m := range askings() {
				list = append(list, newAsking(rt, m, z, next))
			}
			a.kernel.names.w = watched{a.kernel, func() { looks++; lookAt(rt, a, list) }}
			if err := a.Apply(next); err != nil {
				rt.Fatal(err)
			}
			a.kernel.names.w = a.kernel
			list = list[:0]
			for _, m := range askings() {
				list = append(list, newAsking(rt, m, next, next))
			}
			lookAt(rt, a, list)
			z = next
		}
	})
	t.Logf("the program was run after %d writes", looks)
}

// askings are questions for all names that change makes, and their neighbours.
func askings() (out []*dns.Msg) {
	for _, svc := range []string{"web", "db", "new"} {
		base := svc + ".default.svc.cluster.local."
		for _, q := range []struct {
			name  string
			qtype uint16
		}{{base, dns.TypeA}, {base, dns.TypeAAAA}, {"_p._tcp." + base, dns.TypeSRV}, {"h." + base, dns.TypeA}, {"h." + base, dns.TypeAAAA}} {
			out = append(out, new(dns.Msg).SetQuestion(q.name, q.qtype))
		}
	}
	return out
}

// lookAt asks everything once.
func lookAt(t *rapid.T, a *Answerer, list []asking) {
	for _, q := range list {
		ret, out := runOn(t, a, frame(q.packet, true))
		switch {
		case ret == pass && q.must:
			t.Fatalf("%s: missing between two writes", q.what)
		case ret == tx && !slices.ContainsFunc(q.may, func(w []byte) bool { return bytes.Equal(w, out[42:]) }):
			t.Fatalf("%s: neither the zone before nor the one after answers\n%x\nbut\n%x", q.what, out[42:], q.may)
		case ret != tx && ret != pass:
			t.Fatalf("%s: the program returns %d", q.what, ret)
		}
	}
}

// change makes one random change to one Service or its endpoints.
func change(t *rapid.T, w *zonetest.World) {
	key := model.Key{Namespace: "default", Name: rapid.SampledFrom([]string{"web", "db", "new"}).Draw(t, "service")}
	n := rapid.IntRange(1, 9).Draw(t, "n")
	switch rapid.SampledFrom([]string{"cluster", "dual", "headless", "endpoints", "no endpoints", "gone"}).Draw(t, "change") {
	case "cluster":
		w.Writers.Services.Set(key, clusterService(key, fmt.Sprintf("10.96.1.%d", n)))
	case "dual":
		w.Writers.Services.Set(key, clusterService(key, fmt.Sprintf("10.96.1.%d", n), fmt.Sprintf("fd00:96::%d", n)))
	case "headless":
		w.Writers.Services.Set(key, &model.Service{Key: key, Headless: true})
	case "endpoints":
		sl := &model.Slice{Key: key, Service: key, Ports: []model.SlicePort{{Name: "p", Protocol: model.TCP, Port: 80}}}
		for i := range n % 4 {
			e := model.Endpoint{Ready: true, Addr: netip.AddrFrom4([4]byte{10, 244, byte(n), byte(i)})}
			if i == 0 {
				e.Hostname = "h"
			}
			sl.Endpoints = append(sl.Endpoints, e)
		}
		w.Writers.Slices.Set(key, sl)
	case "no endpoints":
		w.Writers.Slices.Delete(key)
	case "gone":
		w.Writers.Services.Delete(key)
	}
}

func clusterService(key model.Key, addrs ...string) *model.Service {
	svc := &model.Service{Key: key, Ports: []model.ServicePort{{Name: "p", Protocol: model.TCP, Port: 80}}}
	for _, a := range addrs {
		svc.ClusterIPs = append(svc.ClusterIPs, netip.MustParseAddr(a))
	}
	return svc
}
