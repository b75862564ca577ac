package ebpf

import (
	"errors"
	"fmt"
	"net/netip"

	"nodelet/proxy/lb"
)

// CanDetect tells whether this back end knows local pods as the operator wants
// it. The sockets that it balances have no interface yet, so only by address.
func CanDetect(local lb.LocalTraffic) error {
	if !local.ByLink() {
		return nil
	}
	return fmt.Errorf("detect local traffic by %s: %w in mode ebpf, which balances sockets before a packet has come in by any link: "+
		"use --detect-local-mode=ClusterCIDR or NodeCIDR, or another --proxy-mode", local.Mode, errors.ErrUnsupported)
}

// podPrefixes are the sources of local pods.
func podPrefixes(cfg *lb.Config) []netip.Prefix {
	return append(cfg.LocalRanges(false), cfg.LocalRanges(true)...)
}
