package kube

import (
	"net/netip"

	discoveryv1 "k8s.io/api/discovery/v1"
)

func discoveryEndpoint(addr string) discoveryv1.Endpoint {
	if addr == "" {
		return discoveryv1.Endpoint{}
	}
	return discoveryv1.Endpoint{Addresses: []string{addr}}
}

func e2addr(s string) netip.Addr { return netip.MustParseAddr(s) }
