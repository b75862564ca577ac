package model

import (
	"fmt"
	"net/netip"
)

// ServiceCIDR is what the service proxy needs of a networking.k8s.io/v1
// ServiceCIDR (KEP-1880): ranges that cluster IPs are taken from.
type ServiceCIDR struct {
	Name            string
	ResourceVersion string
	CIDRs           []netip.Prefix
}

// Key is the object's key in the store.
func (c *ServiceCIDR) Key() Key { return Key{Name: c.Name} }

// String is one line: name and ranges.
func (c *ServiceCIDR) String() string { return fmt.Sprintf("%s %v", c.Name, c.CIDRs) }
