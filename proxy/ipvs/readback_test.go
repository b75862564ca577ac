package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nodelet/internal/ipvs"
	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

const readBackWorld = `node n1 192.168.0.1
service d/x ClusterIP 10.96.0.1 p:80/TCP
slice d/x of d/x p:8080/TCP 10.244.0.2=ready@n2 10.244.0.3=ready@n2
service d/y ClusterIP 10.96.0.2 p:80/TCP
slice d/y of d/y p:8080/TCP 10.244.0.4=ready@n2`

var (
	readBackConfig = &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	aboutX         = lb.Frontend{Addr: netip.MustParseAddr("10.96.0.1"), Proto: model.TCP, Port: 80}
	serverX        = ipvs.VirtualServer{Addr: aboutX.Addr, Proto: unix.IPPROTO_TCP, Port: 80}
	serverY        = ipvs.VirtualServer{Addr: netip.MustParseAddr("10.96.0.2"), Proto: unix.IPPROTO_TCP, Port: 80}
)

// TestCompare: what packets to the frontend can meet is named, the rest is counted.
func TestCompare(t *testing.T) {
	want := func() *table {
		return compile(lb.Compile(readBackConfig, lbtest.MustParse(readBackWorld).Snapshot()), "rr", false)
	}
	real := netip.MustParseAddrPort("10.244.0.2:8080")
	stranger := ipvs.RealServer{AddrPort: netip.MustParseAddrPort("10.244.0.9:8080"), Weight: 1}
	for _, c := range []struct {
		name      string
		broken    func(*table)
		says      string
		elsewhere int
	}{
		{"nothing", func(*table) {}, "", 0},
		{"address gone", func(t *table) { delete(t.addrs, aboutX.Addr) }, "missing: address 10.96.0.1 on link nodelet-ipvs0", 0},
		{"server gone", func(t *table) { delete(t.services, serverX) }, "missing: IPVS virtual server 10.96.0.1:80/6", 0},
		{"endpoint gone", func(t *table) { delete(t.services[serverX].real, real) }, "missing: IPVS virtual server 10.96.0.1:80/6: 10.244.0.2:8080", 0},
		{"endpoint asleep", func(t *table) { t.services[serverX].real[real] = ipvs.RealServer{AddrPort: real} }, "altered: IPVS virtual server 10.96.0.1:80/6: 10.244.0.2:8080: weight", 0},
		{"endpoint of nobody", func(t *table) { t.services[serverX].real[stranger.AddrPort] = stranger }, "foreign: IPVS virtual server 10.96.0.1:80/6: 10.244.0.9:8080", 0},
		{"endpoint that drains", func(t *table) {
			t.services[serverX].real[stranger.AddrPort] = ipvs.RealServer{AddrPort: stranger.AddrPort, Connections: 1}
		}, "", 0},
		{"another's server gone", func(t *table) { delete(t.services, serverY) }, "", 2},
	} {
		have := want()
		c.broken(have)
		var k lb.Kernel
		compare(&k, aboutX, have, want())
		if says := fmt.Sprint(k.Differences); !strings.Contains(says, c.says) || (c.says == "") != (len(k.Differences) == 0) || k.Elsewhere != c.elsewhere {
			t.Errorf("%s: %s, elsewhere %d", c.name, says, k.Elsewhere)
		}
		if c.name == "nothing" && !slices.Equal(k.Holds, []string{"IPVS 10.96.0.1:80/6 rr 10.244.0.2:8080=1 10.244.0.3:8080=1"}) {
			t.Errorf("holds %q", k.Holds)
		}
	}
}

// TestReadBack does so with a kernel.
func TestReadBack(t *testing.T) {
	if _, err := Detect(t.Context(), 0, ""); err != nil {
		t.Skipf("%v (make test-vm RUN=proxy/ipvs runs it elsewhere)", err)
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	b, err := New(Config{NetNS: ns.Fd()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	state := lb.Compile(readBackConfig, lbtest.MustParse(readBackWorld).Snapshot())
	if _, err := b.Apply(t.Context(), state); err != nil {
		t.Fatal(err)
	}
	k, err := b.ReadBack(t.Context(), state, aboutX)
	if err != nil || len(k.Differences) > 0 || k.Elsewhere > 0 || !k.InRules || k.Backend != "ipvs" {
		t.Fatalf("as written: %+v %v", k, err)
	}
	if err := b.conn.Delete(serverX); err != nil {
		t.Fatal(err)
	}
	k, err = b.ReadBack(t.Context(), state, aboutX)
	if err != nil || len(k.Differences) == 0 || k.Differences[0].Kind != lb.Missing {
		t.Errorf("without its server: %+v %v", k, err)
	}
}
