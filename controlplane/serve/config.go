package serve

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Config says what to serve.
type Config struct {
	DataDir          string
	NodeName         string
	AdvertiseAddress netip.Addr   // of this machine, for nodes and pods
	BindAddresses    []netip.Addr // empty: 127.0.0.1 and AdvertiseAddress
	Port             uint16
	KubeletPort      uint16
	Names            []string // further names or addresses in the certificate
	PIDFile          string   // empty: none

	ServiceCIDR   netip.Prefix
	ClusterCIDR   netip.Prefix
	ClusterDomain string
	DNSAddress    netip.Addr

	EtcdEndpoints []string // empty: the embedded one

	ExtraAPIServerArgs         []string
	ExtraControllerManagerArgs []string
	ExtraSchedulerArgs         []string
}

// check finds what cannot work before anything is touched.
func (c *Config) check() error {
	if !filepath.IsAbs(c.DataDir) {
		return fmt.Errorf("check --data-dir %q: must be an absolute path", c.DataDir)
	}
	if problems := validation.IsDNS1123Subdomain(c.NodeName); len(problems) > 0 {
		return fmt.Errorf("check --node-name %q: %s", c.NodeName, strings.Join(problems, "; "))
	}
	if problems := validation.IsDNS1123Subdomain(c.ClusterDomain); len(problems) > 0 {
		return fmt.Errorf("check --cluster-domain %q: %s", c.ClusterDomain, strings.Join(problems, "; "))
	}
	a := c.AdvertiseAddress
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return fmt.Errorf("check --advertise-address %q: must be an address of this machine that nodes and pods reach, not loopback or link-local", a)
	}
	if c.Port == 0 {
		return errors.New("check --secure-port: must not be 0, since kubeconfigs name it")
	}
	return c.checkRanges()
}

func (c *Config) checkRanges() error {
	if c.ServiceCIDR.Bits() < 0 || c.ClusterCIDR.Bits() < 0 {
		return errors.New("check --service-cidr and --cluster-cidr: both are needed")
	}
	if c.ServiceCIDR.Overlaps(c.ClusterCIDR) {
		return fmt.Errorf("check --service-cidr %s: overlaps --cluster-cidr %s", c.ServiceCIDR, c.ClusterCIDR)
	}
	for _, cidr := range []netip.Prefix{c.ServiceCIDR, c.ClusterCIDR} {
		if cidr.Contains(c.AdvertiseAddress) {
			return fmt.Errorf("check --advertise-address %s: lies in %s, which services or pods use: choose another range", c.AdvertiseAddress, cidr)
		}
	}
	if c.ServiceCIDR.Addr().BitLen()-c.ServiceCIDR.Bits() < 4 {
		return fmt.Errorf("check --service-cidr %s: needs at least 16 addresses", c.ServiceCIDR)
	}
	if !c.ServiceCIDR.Contains(c.DNSAddress) {
		return fmt.Errorf("check --dns-service-ip %s: must lie in --service-cidr %s", c.DNSAddress, c.ServiceCIDR)
	}
	if c.DNSAddress == c.firstServiceAddress() || c.DNSAddress == c.ServiceCIDR.Masked().Addr() {
		return fmt.Errorf("check --dns-service-ip %s: is taken by the API server's own service", c.DNSAddress)
	}
	return nil
}

// firstServiceAddress is where pods find the API server.
func (c *Config) firstServiceAddress() netip.Addr {
	return c.ServiceCIDR.Masked().Addr().Next()
}

func (c *Config) bindAddresses() []netip.Addr {
	if len(c.BindAddresses) > 0 {
		return c.BindAddresses
	}
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), c.AdvertiseAddress}
}

// certificateNames sorts Names into addresses and DNS names, and adds where the
// API server listens.
func (c *Config) certificateNames() (names []string, addrs []netip.Addr) {
	addrs = []netip.Addr{c.firstServiceAddress(), c.AdvertiseAddress}
	for _, b := range c.BindAddresses {
		if !b.IsUnspecified() {
			addrs = append(addrs, b)
		}
	}
	for _, n := range append([]string{c.NodeName}, c.Names...) {
		if a, err := netip.ParseAddr(n); err == nil {
			addrs = append(addrs, a)
		} else {
			names = append(names, n)
		}
	}
	return names, addrs
}

// url is where this machine's clients reach the API server: on loopback, unless
// it was told not to listen there.
func (c *Config) url() string {
	host := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if len(c.BindAddresses) > 0 {
		host = c.BindAddresses[0]
		for _, b := range c.BindAddresses {
			if b.IsLoopback() || b.IsUnspecified() && b.Is4() {
				host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			}
		}
	}
	return "https://" + netip.AddrPortFrom(host, c.Port).String()
}

// Places inside the data directory.
func (c *Config) dir() string           { return filepath.Join(c.DataDir, "controlplane") }
func (c *Config) in(name string) string { return filepath.Join(c.dir(), name) }
