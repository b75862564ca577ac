package model

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Slice is what proxy and DNS need of a discovery.k8s.io/v1 EndpointSlice of
// address type IPv4 or IPv6 (FQDN slices are not kept).
type Slice struct {
	Key             Key
	ResourceVersion string
	// Service is the owner by label kubernetes.io/service-name; Name is empty when the label is missing.
	Service Key
	// IPv6 tells the family of all addresses in the slice.
	IPv6      bool
	Ports     []SlicePort
	Endpoints []Endpoint
	// Triggered is the time of annotation endpoints.kubernetes.io/last-change-trigger-time; zero when absent.
	Triggered time.Time
	// Arrived is when the event of the watch came that brought it, before it was decoded; zero when a list did.
	Arrived time.Time
}

// SlicePort is a target port; Name joins it with a ServicePort.
type SlicePort struct {
	Name     string
	Protocol Protocol
	// Port 0 means "all ports" (nil in the API): of no use to a proxy.
	Port uint16
}

// Endpoint is one back end. Conditions are resolved to the API's defaults:
// Ready and Serving nil mean true, Terminating nil means false.
type Endpoint struct {
	// Addr is the only address: the API guarantees that more than one is meaningless.
	Addr        netip.Addr
	Ready       bool
	Serving     bool
	Terminating bool
	Hostname    string
	NodeName    string
	Zone        string
	// Pod is the target when it is a pod.
	Pod Key
	// Hints is nil for most endpoints.
	Hints *Hints
}

// Hints say for whom an endpoint is meant. Both methods may be called on nil.
type Hints struct{ zones, nodes []string }

// NewHints are those of the API's hints.forZones and hints.forNodes, nil when there are none.
func NewHints(zones, nodes []string) *Hints {
	if len(zones)+len(nodes) == 0 {
		return nil
	}
	return &Hints{zones, nodes}
}

// Zones are the zones it is meant for.
func (h *Hints) Zones() []string {
	if h == nil {
		return nil
	}
	return h.zones
}

// Nodes are the nodes it is meant for.
func (h *Hints) Nodes() []string {
	if h == nil {
		return nil
	}
	return h.nodes
}

// String is one line: key, owner, ports, endpoints with their state.
func (s *Slice) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s", s.Key, s.Service)
	for _, p := range s.Ports {
		fmt.Fprintf(&b, " %s:%d/%s", p.Name, p.Port, p.Protocol)
	}
	for _, e := range s.Endpoints {
		b.WriteString(" " + e.String())
	}
	return b.String()
}

// String is the address and its state: ready, serving, terminating or not-ready.
func (e Endpoint) String() string {
	return e.Addr.String() + "=" + e.State()
}

// State names the conditions in one word: ready, terminating (not serving),
// serving (terminating but still serving) or not-ready.
func (e Endpoint) State() string {
	switch {
	case e.Ready:
		return "ready"
	case e.Terminating && e.Serving:
		return "serving"
	case e.Terminating:
		return "terminating"
	}
	return "not-ready"
}
