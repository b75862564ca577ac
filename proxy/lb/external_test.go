package lb_test

import (
	"net/netip"
	"slices"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// TestExternalIPRanges: external IPs outside of the ranges are not served and
// named; load balancer IPs are not limited, and without ranges nothing is.
func TestExternalIPRanges(t *testing.T) {
	w := lbtest.New()
	err := w.Apply("service d/x LoadBalancer 10.96.0.5,fd96::5 http:80/TCP lb=1.2.3.4 extip=192.0.2.7 extip=8.8.8.8 extip=2001:db8::7 extip=2001:4860::8\n" +
		"slice d/a of d/x http:8080/TCP 10.244.0.5=ready@n1\n")
	if err != nil {
		t.Fatal(err)
	}
	own := *config
	own.ExternalIPRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}
	for _, c := range []struct {
		cfg     *lb.Config
		served  []string
		outside []string
	}{
		{config, []string{"1.2.3.4", "192.0.2.7", "8.8.8.8", "2001:db8::7", "2001:4860::8"}, nil},
		{&own, []string{"1.2.3.4", "192.0.2.7", "2001:db8::7"}, []string{"8.8.8.8", "2001:4860::8"}},
	} {
		s := lb.Compile(c.cfg, w.Snapshot())
		for _, a := range []string{"1.2.3.4", "192.0.2.7", "8.8.8.8", "2001:db8::7", "2001:4860::8"} {
			_, ok := s.Lookup(lb.Frontend{Addr: netip.MustParseAddr(a), Proto: 6, Port: 80})
			if ok != slices.Contains(c.served, a) {
				t.Errorf("with ranges %v %s is served: %t", c.cfg.ExternalIPRanges, a, ok)
			}
		}
		var outside []string
		for _, v := range s.Describe() {
			for _, a := range v.Outside {
				outside = append(outside, a.String())
			}
		}
		if !slices.Equal(outside, c.outside) {
			t.Errorf("with ranges %v %v are named as outside", c.cfg.ExternalIPRanges, outside)
		}
	}
}
