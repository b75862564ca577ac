package nftables_test

import (
	"testing"

	"go.uber.org/goleak"

	"nodelet/proxy"
	"nodelet/proxy/nftables"
	"nodelet/proxy/proxytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	proxytest.Conformance(t, func(netns int) (proxy.Backend, error) {
		return nftables.New(nftables.Config{NetNS: netns, IPv6: true})
	})
}
