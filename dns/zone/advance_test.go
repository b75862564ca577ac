package zone

import (
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"nodelet/dns/zone/zonetest"
	"nodelet/internal/model"
)

// dump prints all that a zone answers from, and what it takes. Two zones with the same dump answer the same.
func (z *Zone) dump() []string {
	var out []string
	for name, x := range map[string]index{"service": z.services, "namespace": z.namespaces, "pod": z.pods, "address": z.reverse} {
		for key, value := range x.all() {
			out = append(out, fmt.Sprintf("%s %q %q", name, key, value))
		}
		_, data := x.room()
		out = append(out, fmt.Sprintf("%s data takes %d", name, data))
	}
	slices.Sort(out)
	return append(out, z.String())
}

var (
	genName = rapid.SampledFrom([]string{"a", "b", "c"})
	genNS   = rapid.SampledFrom([]string{"x", "y"})
	genAddr = rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"})
	genHost = rapid.SampledFrom([]string{"", "", "h", "g"})
	genPort = rapid.SampledFrom([]model.SlicePort{
		{Name: "http", Protocol: model.TCP, Port: 80}, {Name: "dns", Protocol: model.UDP, Port: 53},
		{Name: "dns", Protocol: model.TCP, Port: 53}, {Protocol: model.TCP, Port: 1}, {Name: "all", Protocol: model.TCP},
	})
)

func genKey(t *rapid.T) model.Key {
	return model.Key{Namespace: genNS.Draw(t, "namespace"), Name: genName.Draw(t, "name")}
}

func genService(t *rapid.T, k model.Key) *model.Service {
	svc := &model.Service{Key: k}
	for _, p := range rapid.SliceOfN(genPort, 0, 3).Draw(t, "ports") {
		svc.Ports = append(svc.Ports, model.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
	}
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		svc.Headless = true
	case 1:
		svc.Type, svc.ExternalName = model.ExternalName, rapid.SampledFrom([]string{"b.x.svc.cluster.local", "example.com", "10.0.0.1"}).Draw(t, "target")
	default:
		for _, a := range rapid.SliceOfNDistinct(genAddr, 0, 2, rapid.ID).Draw(t, "ips") {
			svc.ClusterIPs = append(svc.ClusterIPs, netip.MustParseAddr(a))
		}
	}
	return svc
}

func genSlice(t *rapid.T, k model.Key) *model.Slice {
	sl := &model.Slice{Key: k, Service: model.Key{Namespace: k.Namespace}}
	sl.Service.Name = rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "service")
	sl.Ports = rapid.SliceOfN(genPort, 0, 2).Draw(t, "ports")
	for range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		sl.Endpoints = append(sl.Endpoints, model.Endpoint{
			Addr:  netip.MustParseAddr(genAddr.Draw(t, "address")),
			Ready: rapid.IntRange(0, 3).Draw(t, "ready") > 0, Hostname: genHost.Draw(t, "host"),
		})
	}
	return sl
}

// mutate makes one random change to the world.
func mutate(w *zonetest.World, t *rapid.T) {
	switch k := genKey(t); rapid.IntRange(0, 9).Draw(t, "change") {
	case 0, 1:
		w.Writers.Services.Set(k, genService(t, k))
	case 2:
		w.Writers.Services.Delete(k)
	case 3, 4:
		w.Writers.Slices.Set(k, genSlice(t, k))
	case 5:
		w.Writers.Slices.Delete(k)
	case 6:
		ns := model.Key{Name: k.Namespace}
		if rapid.Bool().Draw(t, "gone") {
			w.Writers.Namespaces.Delete(ns)
		} else {
			w.Writers.Namespaces.Set(ns, &model.Namespace{Name: k.Namespace})
		}
	case 7:
		p := &model.PodAddr{Key: k}
		for _, a := range rapid.SliceOfNDistinct(genAddr, 0, 2, rapid.ID).Draw(t, "ips") {
			p.IPs = append(p.IPs, netip.MustParseAddr(a))
		}
		w.Writers.PodAddrs.Set(k, p)
	case 8:
		w.Writers.PodAddrs.Delete(k)
	case 9:
		keep := maps.Collect(w.Store.Snapshot().Services.All())
		delete(keep, k)
		w.Writers.Services.Replace(keep)
		w.Writers.Slices.Replace(maps.Collect(w.Store.Snapshot().Slices.All()))
	}
}

// TestAdvanceEqualsBuild: whatever happened on the way, and however many
// snapshots were skipped, the zone is what compiling from scratch gives, and
// the zone it came from is as it was.
func TestAdvanceEqualsBuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := zonetest.New()
		c := testConfig()
		c.Pods = PodsVerified
		z, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				mutate(w, t)
			}
			before := z.dump()
			next := z.Advance(InputOf(w.Store.Snapshot()))
			if diff := cmp.Diff(before, z.dump()); diff != "" {
				t.Fatalf("Advance changed the zone it started from:\n%s", diff)
			}
			fresh, err := Build(c, InputOf(w.Store.Snapshot()))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fresh.dump(), next.dump()); diff != "" {
				t.Fatalf("Advance differs from Build (-build +advance):\n%s", diff)
			}
			z = next
		}
	})
}

// TestIndexLaw: an index holds what a map holds, versions from before a change
// stay as they were, and whatever was replaced or deleted takes no room.
func TestIndexLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			x    index
			want map[string]string
		}
		var now version
		now.want = map[string]string{}
		keys := rapid.SampledFrom(manyKeys())
		var history []version
		for range rapid.IntRange(1, 6).Draw(t, "edits") {
			history = append(history, version{now.x, maps.Clone(now.want)})
			e := now.x.edit()
			for range rapid.IntRange(0, 60).Draw(t, "changes") {
				key := keys.Draw(t, "key")
				if rapid.IntRange(0, 2).Draw(t, "kind") == 0 {
					e.delete([]byte(key))
					delete(now.want, key)
				} else {
					now.want[key] = strings.Repeat(key, rapid.IntRange(0, 3000).Draw(t, "size")/len(key))
					e.set([]byte(key), []byte(now.want[key]))
				}
			}
			now.x = e.done()
			for _, v := range append(history, now) {
				checkIndex(t, v.x, v.want)
			}
		}
	})
}

// room is what an index takes: its slots, and the bytes of its data.
func (x *index) room() (slots, data int) {
	for s := range x.shards() {
		slots += len(s.slots)
		data += cap(s.data)
	}
	return slots, data
}

func checkIndex(t *rapid.T, x index, want map[string]string) {
	got, entries := map[string]string{}, 0
	for key, value := range x.all() {
		got[string(key)] = string(value)
		entries += entryHead + len(key) + len(value)
	}
	if !maps.Equal(got, want) || x.size != len(want) {
		t.Fatalf("%v (%d), want %v", got, x.size, want)
	}
	if slots, data := x.room(); data != entries || slots > 4*len(want) {
		t.Fatalf("%d entries of %d bytes take %d and %d slots", len(want), entries, data, slots)
	}
	for _, key := range manyKeys() {
		value, ok := x.get([]byte(key))
		if text, is := want[key]; ok != is || string(value) != text {
			t.Fatalf("%s is %q %t, want %q %t", key, value, ok, text, is)
		}
	}
}

// TestIndexKeepsItsSize: however often entries are replaced, an index holds on to
// no more than it did at first and half of its shards by themselves.
func TestIndexKeepsItsSize(t *testing.T) {
	const entries = 10_000
	key := func(i int) []byte { return fmt.Append(nil, "entry ", i%entries) }
	var x index
	e := x.edit()
	for i := range entries {
		e.set(key(i), key(i))
	}
	x = e.done()
	for i := range 2 * entries {
		e := x.edit()
		e.set(key(i*7919), key(i))
		x = e.done()
		if x.size != entries {
			t.Fatalf("%d entries after %d changes", x.size, i)
		}
	}
	for i, g := range x.groups {
		if bits.OnesCount16(g.loose) >= mostLoose {
			t.Errorf("group %d has loose shards %b", i, g.loose)
		}
	}
}

// manyKeys are so many that some share a shard.
func manyKeys() (out []string) {
	for i := range 2 * shardCount {
		out = append(out, fmt.Sprint(i))
	}
	return out
}
