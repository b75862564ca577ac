package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"nodelet/internal/model"
)

// service resolves a Service and its port to a frontend.
func (n Names) service(p Place, r *Question, ipv6 bool) (End, error) {
	e := End{Name: "Service " + p.Key.String()}
	s, ok := n.Snapshot.Services.Get(p.Key)
	if !ok {
		e.Problem = broken(fmt.Sprintf("there is no Service %s%s", p.Key, n.didYouMean(p.Key)), "correct the name or the namespace, or create the Service")
		return e, nil
	}
	r.Service = &s.Key
	if len(s.ClusterIPs) == 0 {
		e.Problem = noClusterIP(s)
		return e, nil
	}
	e.Addr = s.ClusterIPs[0]
	for _, a := range s.ClusterIPs {
		if a.Is6() == ipv6 {
			e.Addr = a
		}
	}
	port, problem, err := n.port(s, p)
	r.Packet.Dst, r.Packet.Proto = netip.AddrPortFrom(netip.Addr{}, port.Port), port.Protocol
	e.Problem = problem
	return e, err
}

func noClusterIP(s *model.Service) *Finding {
	switch {
	case s.Type == model.ExternalName:
		return broken(fmt.Sprintf("Service %s is an ExternalName: DNS answers with the name %q, and no proxy is on the way", s.Key, s.ExternalName),
			"ask for the address that name resolves to")
	case s.Headless:
		return broken(fmt.Sprintf("Service %s is headless: DNS answers with the endpoints' own addresses, and no proxy is on the way", s.Key),
			"ask for one of its pods: 'nodelet explain SRC pod/NAMESPACE/NAME:PORT'")
	}
	return broken(fmt.Sprintf("Service %s has no cluster IP", s.Key), "see 'kubectl describe service': the API server allocates one at creation")
}

// port finds the Service's port that is meant.
func (n Names) port(s *model.Service, p Place) (model.ServicePort, *Finding, error) {
	fits := func(sp model.ServicePort) bool {
		return (p.Port == 0 || sp.Port == p.Port) && (p.PortName == "" || sp.Name == p.PortName) && (p.Proto == 0 || sp.Protocol == p.Proto)
	}
	var found []model.ServicePort
	for _, sp := range s.Ports {
		if fits(sp) {
			found = append(found, sp)
		}
	}
	switch {
	case len(found) == 0 && (p.Port != 0 || p.PortName != ""):
		asked := p.PortName
		if p.Port != 0 {
			asked = fmt.Sprint(p.Port)
		}
		if p.Proto != 0 {
			asked += "/" + p.Proto.String()
		}
		proto := p.Proto
		if proto == 0 {
			proto = model.TCP
		}
		return model.ServicePort{Port: p.Port, Protocol: proto}, broken(
			fmt.Sprintf("Service %s has no port %s: it has %s", s.Key, asked, portList(s.Ports)),
			"use one of its ports, or add the port to the Service"), nil
	case len(found) == 0:
		return model.ServicePort{}, broken(fmt.Sprintf("Service %s has no ports", s.Key), "add the port to the Service"), nil
	case len(found) > 1 && p.Port == 0:
		return model.ServicePort{}, nil, fmt.Errorf("resolve port of Service %s: it has several, say which: %s", s.Key, portList(s.Ports))
	}
	at := max(0, slices.IndexFunc(found, func(sp model.ServicePort) bool { return sp.Protocol == model.TCP }))
	return found[at], nil, nil
}

func portList(ports []model.ServicePort) string {
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.Name != "" {
			texts[i] += " (" + p.Name + ")"
		}
	}
	return strings.Join(texts, ", ")
}

// didYouMean names Services that are meant perhaps: of the same name
// elsewhere, or nearly of the name here.
func (n Names) didYouMean(k model.Key) string {
	var near []string
	for key := range n.Snapshot.Services.All() {
		if key.Name == k.Name || key.Namespace == k.Namespace && distance(key.Name, k.Name) <= 2 {
			near = append(near, key.String())
		}
	}
	if len(near) == 0 {
		return ""
	}
	slices.Sort(near)
	return "; did you mean " + strings.Join(near[:min(len(near), 3)], " or ") + "?"
}

// distance is how many letters have to change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
