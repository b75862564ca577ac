package ebpf

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nodelet/internal/nl"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

const readBackWorld = nodes + `service d/x LoadBalancer 10.96.0.1 p:80/TCP[30080] q:53/UDP[30053] lb=1.2.3.4 ranges=192.168.7.0/28
slice d/x of d/x p:8080/TCP q:8080/UDP 10.244.1.2=ready@n1 10.244.1.3=ready@n1
service d/y ClusterIP 10.96.0.2 p:80/TCP
slice d/y of d/y p:8080/TCP 10.244.1.4=ready@n1
`

var (
	tcpX  = lb.Frontend{Addr: netip.MustParseAddr("10.96.0.1"), Proto: 6, Port: 80}
	udpX  = lb.Frontend{Addr: netip.MustParseAddr("10.96.0.1"), Proto: 17, Port: 53}
	portX = lb.Frontend{Addr: netip.IPv4Unspecified(), Proto: 6, Port: 30080}
)

// withLink gives the back end's namespace a link and an address.
func withLink(t *testing.T, b *Backend) (index int) {
	t.Helper()
	err := b.inside(func() error {
		c, err := nl.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		if index, err = c.AddVeth(nl.Veth{Name: "uplink", PeerNS: b.cfg.NetNS, PeerName: "peer"}); err != nil {
			return err
		}
		return c.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix("192.168.7.1/24"), Link: index})
	})
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// TestReadBack breaks one thing after the other and sees it named.
func TestReadBack(t *testing.T) {
	type breakage struct {
		name  string
		about lb.Frontend
		do    func(*kernel, *content, int) error
		want  string
	}
	port := func(c *content) uint32 { return c.pools[tcpX].id }
	for _, br := range []breakage{
		{"nothing", tcpX, func(*kernel, *content, int) error { return nil }, ""},
		{"frontend gone", tcpX, func(k *kernel, _ *content, _ int) error { return k.maps.Frontends.Delete(encodeFrontend(tcpX)) }, "missing: map frontends: 10.96.0.1:80/TCP"},
		{"frontend altered", tcpX, func(k *kernel, c *content, _ int) error {
			return k.maps.Frontends.Put(encodeFrontend(tcpX), proxyFrontend{Port: port(c)})
		}, "altered: map frontends: 10.96.0.1:80/TCP"},
		{"slot elsewhere", tcpX, func(k *kernel, c *content, _ int) error {
			return k.maps.Slots.Put(proxySlotKey{Port: port(c)}, encodeEndpoint(lb.Endpoint{AddrPort: netip.MustParseAddrPort("10.244.9.9:1")}))
		}, "altered: map slots"},
		{"too few slots", portX, func(k *kernel, c *content, _ int) error { return k.maps.Ports.Put(port(c), proxyPort{Slots: 1}) }, "altered: map ports"},
		{"member gone", udpX, func(k *kernel, c *content, _ int) error {
			return k.maps.Members.Delete(memberKey(c.pools[udpX].id, netip.MustParseAddrPort("10.244.1.2:8080")))
		}, "missing: map members"},
		{"pods unknown", tcpX, func(k *kernel, _ *content, _ int) error {
			return k.maps.Ranges.Delete(encodeRange(podRanges, config.PodCIDRs[0]))
		}, "missing: map ranges: 0/10.244.0.0/16"},
		{"address unknown", portX, func(k *kernel, _ *content, _ int) error {
			return k.maps.Locals.Delete(encodeAddr(netip.MustParseAddr("192.168.7.1")))
		}, "missing: map locals: 192.168.7.1"},
		{"link unknown", portX, func(k *kernel, _ *content, i int) error { return k.maps.Devices.Delete(uint32(i)) }, "altered: map devices: uplink"},
		{"program off a link", portX, func(k *kernel, _ *content, i int) error { return k.forgetDevice(i) }, "missing: program ingress at link uplink"},
		{"program off the cgroup", tcpX, func(k *kernel, _ *content, _ int) error { return os.Remove(filepath.Join(k.dir, "links", "connect4")) }, "missing: program connect4 at cgroup"},
		{"all gone", tcpX, func(k *kernel, _ *content, _ int) error { return os.RemoveAll(k.dir) }, "missing: maps in "},
	} {
		t.Run(br.name, func(t *testing.T) {
			b := alone(t)
			index := withLink(t, b)
			s := lb.Compile(config, lbtest.MustParse(readBackWorld).Snapshot())
			if _, err := b.Apply(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if err := br.do(b.kernel, b.have, index); err != nil {
				t.Fatal(err)
			}
			k, err := b.ReadBack(t.Context(), s, br.about)
			if err != nil {
				t.Fatal(err)
			}
			holds := strings.Join(k.Holds, "\n")
			if br.want == "" && (len(k.Differences)+k.Elsewhere > 0 || !strings.Contains(holds, "10.244.1.2:8080") || strings.Contains(holds, "10.244.1.4")) {
				t.Errorf("differences where there are none, or endpoints missing or of another Service: %v and %d\n%s", k.Differences, k.Elsewhere, holds)
			}
			if got := fmt.Sprint(k.Differences); !strings.Contains(got, br.want) {
				t.Errorf("found %s, want %q\n%s", got, br.want, holds)
			}
			// Others' are not the frontend's concern.
			other, err := b.ReadBack(t.Context(), s, lb.Frontend{Addr: netip.MustParseAddr("10.96.0.2"), Proto: 6, Port: 80})
			if wide := strings.Contains(br.want, "maps in") || strings.Contains(br.want, "program") || strings.Contains(br.want, "ranges: 0") || strings.Contains(br.want, "devices"); err != nil || !wide && len(other.Differences) > 0 {
				t.Errorf("of another Service: %v, %v", other.Differences, err)
			}
		})
	}
}
