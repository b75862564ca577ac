package ipvs_test

import (
	"testing"

	"go.uber.org/goleak"

	"nodelet/proxy"
	"nodelet/proxy/ipvs"
	"nodelet/proxy/proxytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	ipv6, err := ipvs.Detect(t.Context(), 0, "")
	if err != nil {
		t.Skipf("%v (make test-vm RUN=proxy/ipvs runs it elsewhere)", err)
	}
	if !ipv6 {
		t.Error("no IPv6")
	}
	proxytest.Conformance(t, func(netns int) (proxy.Backend, error) {
		return ipvs.New(ipvs.Config{NetNS: netns, IPv6: true})
	})
}
