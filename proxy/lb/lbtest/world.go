// Package lbtest writes Services, EndpointSlices and Nodes as short lines of
// text, so that one description can be a golden test of package lb, the input
// of every back end and a case of the conformance test. It is no product code.
//
// Touches: memory only.
//
// The lines:
//
//	node NAME ADDR... [zone=Z] [pods=CIDR,CIDR]
//	service NS/NAME TYPE IP[,IP] PORT... [OPTION...]
//	slice NS/NAME of NS/SERVICE PORT... ENDPOINT...
//	cidr NAME CIDR[,CIDR]
//	delete service|slice|node|cidr NAME
//
// A PORT is name:number/PROTOCOL, for a Service with its node port in brackets.
// An ENDPOINT is ADDR=STATE[@NODE][;zones=Z,Z][;nodes=N,N] with the states
// ready, serving (terminating but serving), terminating and not-ready.
// OPTIONs: internal=local external=local affinity=DURATION lb=IP lbproxy=IP
// extip=IP ranges=CIDR,CIDR proxy=NAME check=PORT headless.
package lbtest

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

// World is a store with its write ends.
type World struct {
	Store *store.Store
	*store.Writers
	version int
}

// New makes a world in which all tables are synced and empty.
func New() *World {
	s, w := store.New()
	world := &World{Store: s, Writers: w}
	w.Services.Replace(nil)
	w.Slices.Replace(nil)
	w.Nodes.Replace(nil)
	return world
}

// MustParse makes a world of these lines; it panics when they are wrong.
func MustParse(text string) *World {
	w := New()
	if err := w.Apply(text); err != nil {
		panic(err)
	}
	return w
}

// Snapshot is the present state of the world.
func (w *World) Snapshot() *store.Snapshot { return w.Store.Snapshot() }

// Apply commits each line by itself. Empty lines and lines that begin with # say nothing.
func (w *World) Apply(text string) error {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if err := w.line(fields); err != nil {
			return fmt.Errorf("%q: %w", strings.TrimSpace(line), err)
		}
	}
	return nil
}

func (w *World) line(f []string) error {
	w.version++
	version := strconv.Itoa(w.version)
	switch {
	case f[0] == "node" && len(f) >= 2:
		n, err := parseNode(f[1:])
		if err != nil {
			return err
		}
		n.ResourceVersion = version
		w.Nodes.Set(model.Key{Name: n.Name}, n)
	case f[0] == "service" && len(f) >= 4:
		s, err := parseService(f[1:])
		if err != nil {
			return err
		}
		s.ResourceVersion = version
		w.Services.Set(s.Key, s)
	case f[0] == "slice" && len(f) >= 4 && f[2] == "of":
		s, err := parseSlice(f[1:])
		if err != nil {
			return err
		}
		s.ResourceVersion = version
		w.Slices.Set(s.Key, s)
	case f[0] == "cidr" && len(f) == 3:
		c := &model.ServiceCIDR{Name: f[1], ResourceVersion: version}
		var err error
		if c.CIDRs, err = parsePrefixes(f[2]); err != nil {
			return err
		}
		w.ServiceCIDRs.Set(c.Key(), c)
	case f[0] == "delete" && len(f) == 3:
		return w.remove(f[1], model.ParseKey(f[2]))
	default:
		return fmt.Errorf("unknown line")
	}
	return nil
}

func (w *World) remove(kind string, k model.Key) error {
	switch kind {
	case "service":
		w.Services.Delete(k)
	case "slice":
		w.Slices.Delete(k)
	case "node":
		w.Nodes.Delete(k)
	case "cidr":
		w.ServiceCIDRs.Delete(k)
	default:
		return fmt.Errorf("unknown kind %q", kind)
	}
	return nil
}

func parsePrefixes(list string) (out []netip.Prefix, err error) {
	for text := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parseNode(f []string) (*model.Node, error) {
	n := &model.Node{Name: f[0], Labels: map[string]string{}, Ready: true}
	for _, x := range f[1:] {
		if zone, ok := strings.CutPrefix(x, "zone="); ok {
			n.Labels["topology.kubernetes.io/zone"] = zone
			continue
		}
		if pods, ok := strings.CutPrefix(x, "pods="); ok {
			var err error
			if n.PodCIDRs, err = parsePrefixes(pods); err != nil {
				return nil, err
			}
			continue
		}
		a, err := netip.ParseAddr(x)
		if err != nil {
			return nil, err
		}
		n.InternalIPs = append(n.InternalIPs, a)
	}
	return n, nil
}

func parseService(f []string) (*model.Service, error) {
	s := &model.Service{Key: model.ParseKey(f[0])}
	types := map[string]model.ServiceType{
		"ClusterIP": model.ClusterIP, "NodePort": model.NodePort, "LoadBalancer": model.LoadBalancer, "ExternalName": model.ExternalName,
	}
	var ok bool
	if s.Type, ok = types[f[1]]; !ok {
		return nil, fmt.Errorf("unknown type %q", f[1])
	}
	for ip := range strings.SplitSeq(f[2], ",") {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, err
		}
		s.ClusterIPs = append(s.ClusterIPs, a)
	}
	for _, x := range f[3:] {
		if key, value, ok := strings.Cut(x, "="); ok || x == "headless" {
			if err := option(s, key, value); err != nil {
				return nil, err
			}
			continue
		}
		p, node, err := parsePort(x)
		if err != nil {
			return nil, err
		}
		s.Ports = append(s.Ports, model.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port, NodePort: node})
	}
	return s, nil
}

func option(s *model.Service, key, value string) (err error) {
	switch key {
	case "internal":
		s.InternalLocal = value == "local"
	case "external":
		s.ExternalLocal = value == "local"
	case "affinity":
		s.AffinityTimeout, err = time.ParseDuration(value)
	case "algorithm":
		s.Algorithm = value
	case "lb", "lbproxy":
		var a netip.Addr
		a, err = netip.ParseAddr(value)
		s.LoadBalancer = append(s.LoadBalancer, model.LoadBalancerIngress{IP: a, Proxy: key == "lbproxy"})
	case "extip":
		var a netip.Addr
		a, err = netip.ParseAddr(value)
		s.ExternalIPs = append(s.ExternalIPs, a)
	case "ranges":
		s.SourceRanges, err = parsePrefixes(value)
	case "proxy":
		s.ProxyName = value
	case "check":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 16)
		s.HealthCheckNodePort = uint16(n)
	case "headless":
		s.Headless, s.ClusterIPs = true, nil
	default:
		err = fmt.Errorf("unknown option %q", key)
	}
	return err
}

// parsePort reads name:number/PROTOCOL[node port].
func parsePort(x string) (p model.SlicePort, node uint16, err error) {
	x, bracket, hasNode := strings.Cut(x, "[")
	name, rest, ok := strings.Cut(x, ":")
	number, proto, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return p, 0, fmt.Errorf("not a port: %q", x)
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		return p, 0, err
	}
	protocols := map[string]model.Protocol{"TCP": model.TCP, "UDP": model.UDP, "SCTP": model.SCTP}
	p = model.SlicePort{Name: name, Port: uint16(n), Protocol: protocols[proto]}
	if p.Protocol == 0 {
		return p, 0, fmt.Errorf("unknown protocol %q", proto)
	}
	if hasNode {
		n, err = strconv.ParseUint(strings.TrimSuffix(bracket, "]"), 10, 16)
	}
	return p, uint16(n) * b2u(hasNode), err
}

func b2u(b bool) uint16 {
	if b {
		return 1
	}
	return 0
}

func parseSlice(f []string) (*model.Slice, error) {
	s := &model.Slice{Key: model.ParseKey(f[0]), Service: model.ParseKey(f[2])}
	for _, x := range f[3:] {
		if !strings.Contains(x, "=") {
			p, _, err := parsePort(x)
			if err != nil {
				return nil, err
			}
			s.Ports = append(s.Ports, p)
			continue
		}
		e, err := parseEndpoint(x)
		if err != nil {
			return nil, err
		}
		s.IPv6 = e.Addr.Is6()
		s.Endpoints = append(s.Endpoints, e)
	}
	return s, nil
}

func parseEndpoint(x string) (e model.Endpoint, err error) {
	parts := strings.Split(x, ";")
	addr, state, _ := strings.Cut(parts[0], "=")
	if e.Addr, err = netip.ParseAddr(addr); err != nil {
		return e, err
	}
	state, e.NodeName, _ = strings.Cut(state, "@")
	switch state {
	case "ready":
		e.Ready, e.Serving = true, true
	case "serving":
		e.Serving, e.Terminating = true, true
	case "terminating":
		e.Terminating = true
	case "not-ready":
	default:
		return e, fmt.Errorf("unknown state %q", state)
	}
	for _, h := range parts[1:] {
		key, value, _ := strings.Cut(h, "=")
		switch key {
		case "zones":
			e.Hints = model.NewHints(strings.Split(value, ","), e.Hints.Nodes())
		case "nodes":
			e.Hints = model.NewHints(e.Hints.Zones(), strings.Split(value, ","))
		default:
			return e, fmt.Errorf("unknown hint %q", key)
		}
	}
	return e, nil
}
