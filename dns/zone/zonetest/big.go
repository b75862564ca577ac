package zonetest

import (
	"fmt"
	"net/netip"

	"nodelet/internal/model"
)

// Big has n Services with two ready endpoints each.
func Big(n int) *World {
	w := New()
	services, list := map[model.Key]*model.Service{}, map[model.Key]*model.Slice{}
	for i := range n {
		k := model.Key{Namespace: fmt.Sprintf("ns-%d", i%100), Name: fmt.Sprintf("svc-%d", i)}
		services[k] = &model.Service{
			Key: k, ResourceVersion: "1", ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
			Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
		}
		sk := model.Key{Namespace: k.Namespace, Name: k.Name + "-abcde"}
		list[sk] = BigSlice(sk, k, i, true)
	}
	w.Writers.Services.Replace(services)
	w.Writers.Slices.Replace(list)
	return w
}

// BigSlice is the slice of the i-th Service of Big; ready tells whether its second endpoint is.
func BigSlice(key, svc model.Key, i int, ready bool) *model.Slice {
	return &model.Slice{
		Key: key, Service: svc, Ports: []model.SlicePort{{Name: "http", Protocol: model.TCP, Port: 8080}},
		Endpoints: []model.Endpoint{
			{Addr: netip.AddrFrom4([4]byte{10, 244, byte(i >> 7), byte(2 * i)}), Ready: true},
			{Addr: netip.AddrFrom4([4]byte{10, 244, byte(i >> 7), byte(2*i + 1)}), Ready: ready},
		},
	}
}
