package zone

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// world is a store under test and the text it is made from, one object a line:
//
//	service NS/NAME ClusterIP|Headless|ExternalName ADDRESS,...|TARGET NAME:PORT/PROTO...
//	namespace NAME
//	pod NS/NAME ADDRESS,...
//	slice NS/NAME SERVICE NAME:PORT/PROTO... ADDRESS[host=H,not-ready]...
type world struct {
	store   *store.Store
	writers *store.Writers
}

func newWorld() *world {
	s, w := store.New()
	return &world{store: s, writers: w}
}

func parseWorld(t testing.TB, text string) *world {
	t.Helper()
	w := newWorld()
	services, list := map[model.Key]*model.Service{}, map[model.Key]*model.Slice{}
	namespaces, pods := map[model.Key]*model.Namespace{}, map[model.Key]*model.PodAddr{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == "#":
		case f[0] == "namespace" && len(f) == 2:
			namespaces[model.Key{Name: f[1]}] = &model.Namespace{Name: f[1]}
		case f[0] == "pod" && len(f) == 3:
			p := &model.PodAddr{Key: model.ParseKey(f[1])}
			for a := range strings.SplitSeq(f[2], ",") {
				p.IPs = append(p.IPs, netip.MustParseAddr(a))
			}
			pods[p.Key] = p
		case f[0] == "service" && len(f) >= 3:
			svc, err := parseService(f[1:])
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			services[svc.Key] = svc
		case f[0] == "slice" && len(f) >= 3:
			sl, err := parseSlice(f[1:])
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			list[sl.Key] = sl
		default:
			t.Fatalf("unreadable line %q", line)
		}
	}
	w.writers.Services.Replace(services)
	w.writers.Slices.Replace(list)
	// As with an API server that does not let us list them, unless the test has some.
	if len(namespaces) > 0 {
		w.writers.Namespaces.Replace(namespaces)
	}
	if len(pods) > 0 {
		w.writers.PodAddrs.Replace(pods)
	}
	return w
}

func (w *world) input() Input { return InputOf(w.store.Snapshot()) }

func parseService(f []string) (*model.Service, error) {
	svc := &model.Service{Key: model.ParseKey(f[0])}
	rest := f[2:]
	switch f[1] {
	case "Headless":
		svc.Headless = true
	case "ExternalName":
		svc.Type, svc.ExternalName = model.ExternalName, rest[0]
		return svc, nil
	case "ClusterIP":
		for a := range strings.SplitSeq(rest[0], ",") {
			ip, err := netip.ParseAddr(a)
			if err != nil {
				return nil, err
			}
			svc.ClusterIPs = append(svc.ClusterIPs, ip)
		}
		rest = rest[1:]
	default:
		return nil, fmt.Errorf("unknown type %q", f[1])
	}
	for _, p := range rest {
		name, port, proto, err := parsePort(p)
		if err != nil {
			return nil, err
		}
		svc.Ports = append(svc.Ports, model.ServicePort{Name: name, Port: port, Protocol: proto})
	}
	return svc, nil
}

func parsePort(s string) (name string, port uint16, proto model.Protocol, err error) {
	name, rest, _ := strings.Cut(s, ":")
	var text string
	if _, err = fmt.Sscanf(rest, "%d/%s", &port, &text); err != nil {
		return "", 0, 0, fmt.Errorf("port %q: %w", s, err)
	}
	proto, ok := map[string]model.Protocol{"TCP": model.TCP, "UDP": model.UDP, "SCTP": model.SCTP}[text]
	if !ok {
		return "", 0, 0, fmt.Errorf("unknown protocol %q", text)
	}
	return name, port, proto, nil
}

func parseSlice(f []string) (*model.Slice, error) {
	key := model.ParseKey(f[0])
	sl := &model.Slice{Key: key, Service: model.Key{Namespace: key.Namespace, Name: f[1]}}
	for _, s := range f[2:] {
		if strings.Contains(s, "/") {
			name, port, proto, err := parsePort(s)
			if err != nil {
				return nil, err
			}
			sl.Ports = append(sl.Ports, model.SlicePort{Name: name, Port: port, Protocol: proto})
			continue
		}
		addr, opts, _ := strings.Cut(strings.TrimSuffix(s, "]"), "[")
		ip, err := netip.ParseAddr(addr)
		if err != nil {
			return nil, err
		}
		e := model.Endpoint{Addr: ip, Ready: true, Serving: true}
		for o := range strings.SplitSeq(opts, ",") {
			switch host, isHost := strings.CutPrefix(o, "host="); {
			case isHost:
				e.Hostname = host
			case o == "not-ready":
				e.Ready, e.Serving = false, false
			case o == "terminating":
				e.Ready, e.Terminating = false, true
			case o != "":
				return nil, fmt.Errorf("unknown condition %q", o)
			}
		}
		sl.IPv6 = ip.Is6()
		sl.Endpoints = append(sl.Endpoints, e)
	}
	return sl, nil
}
