package proxytest

import (
	"net/netip"
	"testing"
	"time"

	"nodelet/internal/model"
	"nodelet/internal/nl"
)

// stranger is somebody at addresses of the ranges of cluster IPs, by the host's own links.
func (l *Lab) stranger(h *Host, four, six string) *Host {
	l.t.Helper()
	s := &Host{Name: "stranger", IP4: addr(four), IP6: addr(six), NS: h.NS}
	l.inside(h, func(c *nl.Conn) error {
		lo, err := c.Link("lo")
		if err != nil {
			return err
		}
		for _, a := range []netip.Addr{s.IP4, s.IP6} {
			if err := c.AddAddr(nl.Addr{Prefix: netip.PrefixFrom(a, a.BitLen()), Link: lo.Index}); err != nil {
				return err
			}
		}
		return nil
	})
	l.Serve(s, 8080)
	return s
}

// serviceCIDRs: what is sent to an address of the ranges of cluster IPs that
// no Service has is dropped; not what another proxy serves, nor what the node
// itself answers. Somebody is there, so that only the drop keeps clients away.
func serviceCIDRs(t *testing.T, s subject) {
	b := newBench(t, s, "service d/x ClusterIP 10.96.0.1,fd96::1 p:80/TCP\n"+endpoints("d/x", "a", "r"))
	b.stranger(b.Host("outside"), "10.96.0.99", "fd96::99")
	reached := func(when string, yes bool, dsts ...string) {
		t.Helper()
		for _, from := range []string{"a", "node", "second"} {
			for _, dst := range dsts {
				for _, proto := range []model.Protocol{model.TCP, model.UDP} {
					wait := silence
					if yes {
						wait = patience
					}
					got, err := b.Ask(b.Host(from), proto, mustAddrPort(dst), wait)
					if err != nil || yes != (got.Server == "stranger") || !yes && !got.Silent {
						t.Errorf("%s: %s -> %s/%s: %s, %v", when, from, dst, proto, got, err)
					}
				}
			}
		}
	}
	unknown, here := []string{"10.96.0.99:8080", "[fd96::99]:8080"}, []string{"10.96.0.53:8080", "[fd96::53]:8080"}
	for _, dst := range unknown { // a route of a new address may come a moment after it
		deadline := time.Now().Add(patience)
		for time.Now().Before(deadline) {
			if got, err := b.Ask(b.Host("a"), model.TCP, mustAddrPort(dst), patience); err == nil && got.Server != "" {
				break
			}
			<-time.After(time.Millisecond)
		}
	}
	reached("without ranges", true, unknown...)
	b.change("cidr kubernetes 10.96.0.0/16,fd96::/112")
	reached("inside the ranges", false, unknown...)
	b.agree("a -> 10.96.0.1:80/TCP", "outside -> [fd96::1]:80/TCP", "a -> 10.96.0.1:81/TCP", "node -> 10.96.0.1:80/TCP",
		"outside -> 10.96.0.77:80/TCP", "a -> 192.168.7.9:9/TCP")
	b.change("service d/theirs ClusterIP 10.96.0.99,fd96::99 p:8080/TCP proxy=other")
	reached("another proxy's", true, unknown...)
	b.stranger(b.Node, "10.96.0.53", "fd96::53")
	b.stop()
	b.start()
	reached("an address of the node", true, here...)
	reached("another proxy's, after a restart", true, unknown...)
	b.change("delete service d/theirs")
	reached("nobody's again", false, unknown...)
	b.change("delete cidr kubernetes")
	reached("ranges are gone", true, unknown...)
}
