package lbtest

import (
	"fmt"
	"net/netip"
	"strconv"

	"nodelet/internal/model"
)

// Many makes a world of n Services with so many ready endpoints each.
func Many(n, endpoints int) *World {
	w := New()
	w.Nodes.Set(model.Key{Name: "n1"}, &model.Node{Name: "n1", InternalIPs: []netip.Addr{netip.MustParseAddr("192.168.0.1")}})
	services := make(map[model.Key]*model.Service, n)
	slices := make(map[model.Key]*model.Slice, n)
	for i := range n {
		k := key(i)
		services[k] = &model.Service{
			Key: k, ResourceVersion: "1", ClusterIPs: []netip.Addr{at(10, 96, i)},
			Ports: []model.ServicePort{{Name: "p", Protocol: model.TCP, Port: 80}},
		}
		slices[k] = slice(i, endpoints, "1")
	}
	w.Services.Replace(services)
	w.Slices.Replace(slices)
	return w
}

// Flip writes the slice of Service i anew, with so many endpoints and with
// other addresses than the last time.
func (w *World) Flip(i, endpoints int) {
	w.version++
	s := slice(i, endpoints, strconv.Itoa(w.version))
	s.Endpoints[0].Addr = at(10, 245, w.version)
	w.Slices.Set(s.Key, s)
}

func key(i int) model.Key { return model.Key{Namespace: "default", Name: fmt.Sprintf("s%06d", i)} }

// at gives the i-th address in a block of 2^24 that begins at a.b.
func at(a, b byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{a, b + byte(i>>16), byte(i >> 8), byte(i)})
}

func slice(i, endpoints int, version string) *model.Slice {
	s := &model.Slice{
		Key: key(i), Service: key(i), ResourceVersion: version,
		Ports: []model.SlicePort{{Name: "p", Protocol: model.TCP, Port: 8080}},
	}
	for j := range endpoints {
		a := netip.AddrFrom4([4]byte{10, byte(128 + j), byte(i >> 8), byte(i)})
		s.Endpoints = append(s.Endpoints, model.Endpoint{Addr: a, Ready: true, Serving: true, NodeName: "n" + strconv.Itoa(2+j)})
	}
	return s
}
