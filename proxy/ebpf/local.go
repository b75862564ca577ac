package ebpf

import (
	"errors"
	"fmt"

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

// rangesOf lists what map ranges has beside the source ranges of ports: the
// sources of local pods, and the ranges of ClusterIPs.
func rangesOf(cfg *lb.Config) (out []proxyRangeKey) {
	for _, ipv6 := range []bool{false, true} {
		for _, p := range cfg.LocalRanges(ipv6) {
			out = append(out, encodeRange(podRanges, p))
		}
		for _, p := range cfg.ServiceRanges(ipv6) {
			out = append(out, encodeRange(serviceRanges, p))
		}
	}
	return out
}
