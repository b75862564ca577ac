package cni

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"nodelet/cni/plugin"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// applySysctls makes the host a router for its pods. What belongs to one
// pod's link, the plugin sets.
func (c *CNI) applySysctls(network plugin.Config) error {
	var errs []error
	set := func(key, value string) {
		changed, err := netns.WriteSysctl(key, value)
		if errors.Is(err, os.ErrNotExist) {
			err = nil // a kernel without IPv6, or a link that has gone meanwhile
		}
		errs = append(errs, err)
		if changed {
			c.deps.Log.Info("pod network: set sysctl", "key", "net/"+key, "value", value)
		}
	}
	if has(network.Subnets, netip.Addr.Is4) {
		set("ipv4/ip_forward", "1")
	}
	if has(network.Subnets, netip.Addr.Is6) {
		if err := keepRouterAdvertisements(set); err != nil {
			errs = append(errs, err)
		}
		set("ipv6/conf/all/forwarding", "1")
	}
	return errors.Join(errs...)
}

// keepRouterAdvertisements: a host that forwards IPv6 ignores router
// advertisements unless accept_ra is 2, and would lose its default route.
func keepRouterAdvertisements(set func(key, value string)) error {
	conn, err := nl.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	links, err := conn.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		key := fmt.Sprintf("ipv6/conf/%s/accept_ra", l.Name)
		if value, err := netns.ReadSysctl(key); err == nil && value == "1" && !l.Loopback && l.Kind != "veth" {
			set(key, "2")
		}
	}
	return nil
}

func has(list []netip.Prefix, is func(netip.Addr) bool) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return is(p.Addr()) })
}
