package serve

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"":                    func(*Config) {},
		"--data-dir":          func(c *Config) { c.DataDir = "relative" },
		"--node-name":         func(c *Config) { c.NodeName = "Not_A_Name" },
		"--cluster-domain":    func(c *Config) { c.ClusterDomain = "" },
		"not loopback":        func(c *Config) { c.AdvertiseAddress = netip.MustParseAddr("127.0.0.1") },
		"--advertise-address": func(c *Config) { c.AdvertiseAddress = netip.Addr{} },
		"--secure-port":       func(c *Config) { c.Port = 0 },
		"overlaps":            func(c *Config) { c.ClusterCIDR = netip.MustParsePrefix("10.96.0.0/16") },
		"services or pods":    func(c *Config) { c.AdvertiseAddress = netip.MustParseAddr("10.244.0.1") },
		"16 addresses":        func(c *Config) { c.ServiceCIDR = netip.MustParsePrefix("10.96.0.8/29") },
		"must lie in":         func(c *Config) { c.DNSAddress = netip.MustParseAddr("10.0.0.10") },
		"own service":         func(c *Config) { c.DNSAddress = netip.MustParseAddr("10.96.0.1") },
		"both are needed":     func(c *Config) { c.ServiceCIDR = netip.Prefix{} },
	} {
		c := testConfig(t)
		change(&c)
		err := c.check()
		if want == "" && err != nil {
			t.Errorf("a good configuration is refused: %v", err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
}

func TestURL(t *testing.T) {
	for bind, want := range map[string]string{
		"":                    "https://127.0.0.1:6443",
		"0.0.0.0":             "https://127.0.0.1:6443",
		"10.77.0.1":           "https://10.77.0.1:6443",
		"10.77.0.1,127.0.0.1": "https://127.0.0.1:6443",
		"fd00::1":             "https://[fd00::1]:6443",
	} {
		c := Config{Port: 6443}
		for b := range strings.SplitSeq(bind, ",") {
			if b != "" {
				c.BindAddresses = append(c.BindAddresses, netip.MustParseAddr(b))
			}
		}
		if got := c.url(); got != want {
			t.Errorf("bound to %q: %s, want %s", bind, got, want)
		}
	}
}

func TestListeningInode(t *testing.T) {
	const line = "   0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 24689 1 0000 100"
	if inode, ok := listeningInode(line, 6443); !ok || inode != "24689" {
		t.Errorf("%q %v", inode, ok)
	}
	for name, bad := range map[string]string{
		"another port":  strings.Replace(line, "192B", "192C", 1),
		"not listening": strings.Replace(line, " 0A ", " 01 ", 1),
		"short":         "0: 0100007F:192B",
		"no port":       strings.Replace(line, ":192B", "", 1),
	} {
		if _, ok := listeningInode(bad, 6443); ok {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestProgramPages(t *testing.T) {
	const exe = "/usr/bin/nodelet-controlplane"
	for line, want := range map[string]bool{
		"00400000-04c2f000 r-xp 00000000 fe:00 1234    " + exe:     true,
		"04c2f000-08000000 r--p 0482f000 fe:00 1234    " + exe:     true,
		"08000000-08200000 rw-p 07c00000 fe:00 1234    " + exe:     false,
		"00400000-04c2f000 r-xp 00000000 fe:00 1234    /lib/ld.so": false,
		"garbage": false,
	} {
		if _, _, got := programPages(line, exe); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}
