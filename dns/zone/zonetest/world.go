package zonetest

import (
	"fmt"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// World is a store under test.
type World struct {
	Store   *store.Store
	Writers *store.Writers
}

// New is a world whose tables have not been read yet.
func New() *World {
	s, w := store.New()
	return &World{Store: s, Writers: w}
}

// Parse makes a world of text, one object a line:
//
//	service NS/NAME ClusterIP|Headless|ExternalName ADDRESS,...|TARGET NAME:PORT/PROTO...
//	namespace NAME
//	pod NS/NAME ADDRESS,...
//	slice NS/NAME SERVICE NAME:PORT/PROTO... ADDRESS[host=H,not-ready]...
func Parse(t testing.TB, text string) *World {
	t.Helper()
	w := New()
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
	w.Writers.Services.Replace(services)
	w.Writers.Slices.Replace(list)
	// As with an API server that does not let us list them, unless the test has some.
	if len(namespaces) > 0 {
		w.Writers.Namespaces.Replace(namespaces)
	}
	if len(pods) > 0 {
		w.Writers.PodAddrs.Replace(pods)
	}
	return w
}

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

// Setting is the section "config" of an archive.
type Setting struct {
	Domain string
	// Pods is a mode of pod records.
	Pods string
	// Unsynced: nothing has been read yet.
	Unsynced bool
}

// ParseSetting reads the section "config".
func ParseSetting(t testing.TB, text string) Setting {
	t.Helper()
	c := Setting{Domain: "cluster.local", Pods: "insecure"}
	for o := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		switch key, value, _ := strings.Cut(o, "="); key {
		case "pods":
			c.Pods = value
		case "domain":
			c.Domain = value
		case "unsynced":
			c.Unsynced = true
		case "":
		default:
			t.Fatalf("unknown config %q", o)
		}
	}
	return c
}

// Question is one line of the section "ask": "TYPE NAME [size=N] [tcp] [turn=N]".
type Question struct {
	Msg  *dns.Msg
	TCP  bool
	Turn uint32
}

// Questions reads the section "ask"; each question has the line it is made from.
func Questions(t testing.TB, text string) iter.Seq2[string, Question] {
	t.Helper()
	return func(yield func(string, Question) bool) {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			if !yield(line, ParseQuestion(t, line)) {
				return
			}
		}
	}
}

// ParseQuestion reads one line of the section "ask".
func ParseQuestion(t testing.TB, line string) Question {
	t.Helper()
	f := strings.Fields(line)
	qtype, ok := dns.StringToType[f[0]]
	if !ok {
		if _, err := fmt.Sscanf(f[0], "TYPE%d", &qtype); err != nil {
			t.Fatalf("unknown type %q", f[0])
		}
	}
	q := Question{Msg: new(dns.Msg)}
	q.Msg.SetQuestion(dns.Fqdn(f[1]), qtype)
	for _, opt := range f[2:] {
		key, value, _ := strings.Cut(opt, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil && key != "tcp" {
			t.Fatalf("%s: %v", line, err)
		}
		switch key {
		case "size":
			q.Msg.SetEdns0(uint16(n), false)
		case "tcp":
			q.TCP = true
		case "turn":
			q.Turn = uint32(n)
		default:
			t.Fatalf("unknown option %q", opt)
		}
	}
	return q
}
