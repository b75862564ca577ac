package iptables_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"nodelet/internal/xtables"
	"nodelet/proxy"
	"nodelet/proxy/iptables"
	"nodelet/proxy/proxytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		t.Run(string(v), func(t *testing.T) {
			proxytest.Conformance(t, func(netns int) (proxy.Backend, error) {
				return iptables.New(t.Context(), iptables.Config{NetNS: netns, IPv6: true, Variant: v})
			})
		})
	}
}

func TestDetect(t *testing.T) {
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT, ""} {
		if ipv6, err := iptables.Detect(t.Context(), iptables.Config{Variant: v}); err != nil || !ipv6 {
			t.Errorf("%s: IPv6 %t, %v", v, ipv6, err)
		}
	}
}
