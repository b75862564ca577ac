package model

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var (
	genText = rapid.OneOf(rapid.Just(""), rapid.StringN(1, 300, 300))
	genAddr = rapid.Map(rapid.SampledFrom([]string{"", "10.0.0.1", "255.255.255.255", "fd00::1", "::ffff:10.0.0.1", "fe80::1%eth0"}), func(s string) netip.Addr {
		a, _ := netip.ParseAddr(s)
		return a
	})
	genPort     = rapid.Uint16()
	genProtocol = rapid.SampledFrom([]Protocol{0, TCP, UDP, SCTP})
)

func some[T any](g *rapid.Generator[T]) *rapid.Generator[[]T] {
	return rapid.Map(rapid.SliceOfN(g, 0, 3), func(list []T) []T {
		if len(list) == 0 {
			return nil
		}
		return list
	})
}

var genService = rapid.Custom(func(t *rapid.T) *Service {
	b := rapid.Bool()
	s := &Service{
		Key: Key{"ns", "svc"}, ResourceVersion: genText.Draw(t, "rv"), Type: rapid.SampledFrom([]ServiceType{ClusterIP, NodePort, LoadBalancer, ExternalName}).Draw(t, "type"),
		ClusterIPs: some(genAddr).Draw(t, "ips"), Headless: b.Draw(t, "headless"), InternalLocal: b.Draw(t, "il"), ExternalLocal: b.Draw(t, "el"),
		PublishNotReady: b.Draw(t, "publish"), HeadlessLabel: b.Draw(t, "label"), Selectorless: b.Draw(t, "selectorless"),
		Ports: some(rapid.Custom(func(t *rapid.T) ServicePort {
			return ServicePort{genText.Draw(t, "name"), genProtocol.Draw(t, "protocol"), genPort.Draw(t, "port"), genPort.Draw(t, "nodePort"), genText.Draw(t, "app")}
		})).Draw(t, "ports"),
	}
	// Each of those that few have alone brings all of them into the packed form.
	for i, set := range []func(){
		func() { s.ExternalName = genText.Draw(t, "external") },
		func() { s.ExternalIPs = some(genAddr).Draw(t, "externalIPs") },
		func() {
			s.LoadBalancer = some(rapid.Custom(func(t *rapid.T) LoadBalancerIngress {
				return LoadBalancerIngress{genAddr.Draw(t, "ip"), b.Draw(t, "proxy")}
			})).Draw(t, "lb")
		},
		func() { s.AffinityTimeout = time.Duration(rapid.Int64().Draw(t, "affinity")) },
		func() {
			s.SourceRanges = some(rapid.Map(genAddr, func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 8) })).Draw(t, "ranges")
		},
		func() { s.HealthCheckNodePort = genPort.Draw(t, "check") },
		func() { s.TrafficDistribution = genText.Draw(t, "distribution") },
		func() { s.Algorithm = genText.Draw(t, "algorithm") },
		func() { s.ProxyName = genText.Draw(t, "proxy") },
	} {
		if rapid.IntRange(0, 5).Draw(t, "rare"+string(rune('a'+i))) == 0 {
			set()
		}
	}
	return s
})

var genSlice = rapid.Custom(func(t *rapid.T) *Slice {
	b := rapid.Bool()
	s := &Slice{Key: Key{"ns", "slice"}, ResourceVersion: genText.Draw(t, "rv"), IPv6: b.Draw(t, "v6")}
	s.Service = Key{rapid.SampledFrom([]string{"ns", "", "other"}).Draw(t, "namespace"), genText.Draw(t, "service")}
	for _, at := range []*time.Time{&s.Triggered, &s.Arrived} {
		if b.Draw(t, "time") {
			*at = time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
		}
	}
	s.Ports = some(rapid.Custom(func(t *rapid.T) SlicePort {
		return SlicePort{genText.Draw(t, "name"), genProtocol.Draw(t, "protocol"), genPort.Draw(t, "port")}
	})).Draw(t, "ports")
	s.Endpoints = some(rapid.Custom(func(t *rapid.T) Endpoint {
		return Endpoint{
			Addr: genAddr.Draw(t, "addr"), Ready: b.Draw(t, "ready"), Serving: b.Draw(t, "serving"), Terminating: b.Draw(t, "terminating"),
			Hostname: genText.Draw(t, "host"), NodeName: genText.Draw(t, "node"), Zone: genText.Draw(t, "zone"),
			Pod:   Key{genText.Draw(t, "podns"), genText.Draw(t, "pod")},
			Hints: NewHints(some(genText).Draw(t, "zones"), some(genText).Draw(t, "nodes")),
		}
	})).Draw(t, "endpoints")
	return s
})

var exactly = []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmp.AllowUnexported(Hints{})}

// A field that is new must be packed, and drawn here.
func TestPackKnowsAllFields(t *testing.T) {
	for of, want := range map[reflect.Type]int{
		reflect.TypeFor[Service](): 20, reflect.TypeFor[ServicePort](): 5, reflect.TypeFor[LoadBalancerIngress](): 2,
		reflect.TypeFor[Slice](): 8, reflect.TypeFor[SlicePort](): 3, reflect.TypeFor[Endpoint](): 9, reflect.TypeFor[Hints](): 2,
	} {
		if n := of.NumField(); n != want {
			t.Errorf("%s has %d fields, Pack knows %d", of, n, want)
		}
	}
}

// The law of packing: what is unpacked is what was packed.
func TestPackLaw(t *testing.T) { rapid.Check(t, packLaw) }

func FuzzPack(f *testing.F) { f.Fuzz(rapid.MakeFuzz(packLaw)) }

func packLaw(t *rapid.T) {
	svc := genService.Draw(t, "service")
	if diff := cmp.Diff(svc, UnpackService(svc.Key, svc.Pack()), exactly...); diff != "" {
		t.Fatalf("Service (-packed +unpacked):\n%s", diff)
	}
	sl := genSlice.Draw(t, "slice")
	if diff := cmp.Diff(sl, UnpackSlice(sl.Key, sl.Pack()), exactly...); diff != "" {
		t.Fatalf("Slice (-packed +unpacked):\n%s", diff)
	}
}
