package model

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Protocol is an IP transport protocol by its IANA number.
type Protocol uint8

// The protocols a Service port can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is the name as Kubernetes writes it: TCP, UDP, SCTP.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// ServiceType is the spec.type of a Service.
type ServiceType uint8

// The Service types. Each type but ExternalName contains the ones before it.
const (
	ClusterIP ServiceType = iota
	NodePort
	LoadBalancer
	ExternalName
)

// String is the type as Kubernetes writes it.
func (t ServiceType) String() string {
	return [...]string{"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}[t]
}

// Service is what proxy and DNS need of a v1.Service.
type Service struct {
	Key             Key
	ResourceVersion string
	Type            ServiceType
	// ClusterIPs holds at most one address per family, the primary first; empty when Headless or ExternalName.
	ClusterIPs []netip.Addr
	// Headless: clusterIP is "None": DNS only, never proxied.
	Headless     bool
	ExternalName string
	// ExternalIPs are addresses routed to the cluster by other means.
	ExternalIPs  []netip.Addr
	LoadBalancer []LoadBalancerIngress
	Ports        []ServicePort
	// InternalLocal and ExternalLocal: the traffic policy is Local, not Cluster.
	InternalLocal bool
	ExternalLocal bool
	// AffinityTimeout > 0: sessionAffinity ClientIP with that timeout.
	AffinityTimeout time.Duration
	// SourceRanges limits LoadBalancer traffic; empty means everyone.
	SourceRanges        []netip.Prefix
	HealthCheckNodePort uint16
	PublishNotReady     bool
	// TrafficDistribution is spec.trafficDistribution as written.
	TrafficDistribution string
	// Algorithm is the annotation AlgorithmAnnotation as written.
	Algorithm string
	// ProxyName is the label service.kubernetes.io/service-proxy-name: set means another proxy serves it.
	ProxyName string
	// HeadlessLabel: the label service.kubernetes.io/headless is there: no proxy serves it, whatever its ClusterIPs.
	HeadlessLabel bool
	// Selectorless: spec.selector is empty, endpoints are somebody else's work.
	Selectorless bool
}

// AlgorithmAnnotation of a Service says how a connection from outside gets its
// endpoint: AlgorithmRandom or AlgorithmMaglev.
const (
	AlgorithmAnnotation = AnnotationPrefix + "load-balancing-algorithm"
	AlgorithmRandom     = "random"
	AlgorithmMaglev     = "maglev"
)

// LoadBalancerIngress is one address of status.loadBalancer.
type LoadBalancerIngress struct {
	IP netip.Addr
	// Proxy: ipMode is Proxy, so the address is not short-circuited in the cluster (KEP-1860).
	Proxy bool
}

// ServicePort is one entry of spec.ports.
type ServicePort struct {
	Name     string
	Protocol Protocol
	Port     uint16
	// NodePort is 0 when none is allocated.
	NodePort    uint16
	AppProtocol string
}

// String is one line: key, type, addresses, ports.
func (s *Service) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", s.Key, s.Type)
	switch {
	case s.Headless:
		b.WriteString(" None")
	case s.Type == ExternalName:
		b.WriteString(" " + s.ExternalName)
	default:
		for _, ip := range s.ClusterIPs {
			b.WriteString(" " + ip.String())
		}
	}
	for _, p := range s.Ports {
		b.WriteString(" " + p.String())
	}
	return b.String()
}

// String is "name:port/protocol", with ":nodePort" in brackets when there is one.
func (p ServicePort) String() string {
	s := fmt.Sprintf("%s:%d/%s", p.Name, p.Port, p.Protocol)
	if p.NodePort != 0 {
		s += fmt.Sprintf("[%d]", p.NodePort)
	}
	return s
}

// Port gives the entry with that name; ok is false when there is none.
func (s *Service) Port(name string) (port ServicePort, ok bool) {
	for _, p := range s.Ports {
		if p.Name == name {
			return p, true
		}
	}
	return ServicePort{}, false
}
