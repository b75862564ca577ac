package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// Counter is a back end that counts what goes through each Service.
type Counter interface {
	// Counts are by the frontend of the port's ClusterIP. It may be called by
	// any goroutine at any time.
	Counts() (map[lb.Frontend]lb.Count, error)
}

// ErrNoCounts says that a back end counts nothing.
var ErrNoCounts = errors.New("this proxy mode does not count what goes through Services; mode ebpf does")

// ServiceCount is what went through one port of a Service, over both families.
type ServiceCount struct {
	Service  model.Key `json:"-"`
	Name     string    `json:"service"`
	Port     string    `json:"port"`
	Protocol string    `json:"protocol"`
	lb.Count
}

// Counts lists what went through each Service port, in order of their names.
// Ports that had no traffic yet are left out.
func (p *Proxy) Counts() ([]ServiceCount, error) {
	e := p.engine.Load()
	c, ok := e.Backend.(Counter)
	state := p.State()
	switch {
	case !ok:
		return nil, fmt.Errorf("count in mode %s: %w", e.choice.Mode, ErrNoCounts)
	case state == nil:
		return nil, errors.New("count: the service proxy has not programmed the kernel yet")
	}
	counts, err := c.Counts()
	if err != nil {
		return nil, err
	}
	return sumCounts(state, counts), nil
}

// sumCounts joins the families of a Service's port.
func sumCounts(state *lb.State, counts map[lb.Frontend]lb.Count) []ServiceCount {
	type name struct {
		service model.Key
		port    string
		proto   model.Protocol
	}
	sums := map[name]lb.Count{}
	for f, n := range counts {
		if t, ok := state.Lookup(f); ok && t.Kind == lb.ClusterIP {
			key := name{t.Service, t.Name, t.Proto}
			sums[key] = sums[key].Add(n)
		}
	}
	out := make([]ServiceCount, 0, len(sums))
	for k, n := range sums {
		out = append(out, ServiceCount{Service: k.service, Name: k.service.String(), Port: k.port, Protocol: k.proto.String(), Count: n})
	}
	slices.SortFunc(out, func(a, b ServiceCount) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}
