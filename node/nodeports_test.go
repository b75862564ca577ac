package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// Keywords and ranges of --nodeport-addresses may stand beside each other.
func TestNodePortAddresses(t *testing.T) {
	for given, want := range map[string]string{
		"":                           "[]",
		"primary":                    "[192.168.7.1/32 fd07::1/128]",
		"all":                        "[0.0.0.0/0 ::/0]",
		"localhost,primary":          "[127.0.0.0/8 ::1/128 192.168.7.1/32 fd07::1/128]",
		"10.1.2.3/8,localhost":       "[10.0.0.0/8 127.0.0.0/8 ::1/128]",
		"public":                     "primary, localhost or all",
		"primary,10.0.0.0":           "primary, localhost or all",
		"primary,Localhost,10.0.0/8": "primary, localhost or all",
	} {
		c := Defaults()
		c.NodeIPs = []netip.Addr{netip.MustParseAddr("192.168.7.1"), netip.MustParseAddr("fd07::1")}
		if given != "" {
			c.ProxyOptions.NodePortAddresses = strings.Split(given, ",")
		}
		got := fmt.Sprint(c.nodePorts())
		if err := c.ProxyOptions.check(); err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(got, want) {
			t.Errorf("%q: %s, want %s", given, got, want)
		}
	}
}
