package proxy_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"nodelet/internal/ipvs"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
	"nodelet/proxy"
)

func namespace(t *testing.T) *netns.NS {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// TestForeignIPSets: kube-proxy's sets are named and removed, those of others stay.
func TestForeignIPSets(t *testing.T) {
	ns := namespace(t)
	run := func(args ...string) string {
		t.Helper()
		var out []byte
		err := ns.Do(func() (err error) {
			out, err = exec.Command("ipset", args...).CombinedOutput()
			return err
		})
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip("needs the program ipset, to make what kube-proxy leaves")
		}
		if err != nil {
			t.Fatalf("ipset %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	run("create", "KUBE-CLUSTER-IP", "hash:ip,port")
	run("add", "KUBE-CLUSTER-IP", "10.96.0.1,tcp:443")
	run("create", "KUBE-6-NODE-PORT-TCP", "bitmap:port", "range", "0-65535")
	run("create", "KUBE-SRC-ABC", "hash:ip") // kube-router's
	run("create", "mine", "hash:ip")
	found, err := proxy.Foreign(t.Context(), ns.Fd())
	if want := []string{"kube-proxy's 2 ipsets KUBE-*"}; err != nil || !slices.Equal(found, want) {
		t.Errorf("found %q %v, want %q", found, err, want)
	}
	if _, err := proxy.CleanupForeign(t.Context(), ns.Fd()); err != nil {
		t.Error(err)
	}
	if left := strings.Fields(run("list", "-n")); !slices.Equal(left, []string{"KUBE-SRC-ABC", "mine"}) {
		t.Errorf("left %q", left)
	}
}

// TestForeignIPVS: kube-proxy's link and the virtual servers at its addresses go, another user's stay.
func TestForeignIPVS(t *testing.T) {
	ns := namespace(t)
	if err := ipvs.Load(); err != nil {
		t.Skipf("%v (make test-vm RUN='^proxy$$' runs it elsewhere)", err)
	}
	links, err := nl.OpenAt(ns.Fd())
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	if err := links.AddDummy("kube-ipvs0"); err != nil {
		t.Fatal(err)
	}
	link, err := links.Link("kube-ipvs0")
	if err != nil {
		t.Fatal(err)
	}
	if err := links.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix("10.96.0.1/32"), Link: link.Index}); err != nil {
		t.Fatal(err)
	}
	conn, err := ipvs.Open(ns.Fd())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	theirs := ipvs.VirtualServer{Addr: netip.MustParseAddr("10.96.0.1"), Proto: 6, Port: 443}
	others := ipvs.VirtualServer{Addr: netip.MustParseAddr("192.0.2.1"), Proto: 6, Port: 30080}
	for _, v := range []ipvs.VirtualServer{theirs, others} {
		if err := conn.Add(v, "rr"); err != nil {
			t.Fatal(err)
		}
	}
	found, err := proxy.Foreign(t.Context(), ns.Fd())
	want := []string{"kube-proxy's link kube-ipvs0 with 1 addresses", "kube-proxy's 1 virtual servers of IPVS"}
	if err != nil || !slices.Equal(found, want) {
		t.Errorf("found %q %v, want %q", found, err, want)
	}
	if _, err := proxy.CleanupForeign(t.Context(), ns.Fd()); err != nil {
		t.Error(err)
	}
	if found, err := proxy.Foreign(t.Context(), ns.Fd()); err != nil || len(found) != 0 {
		t.Errorf("left %q %v", found, err)
	}
	left, err := conn.List()
	if err != nil || len(left) != 1 || left[0].VirtualServer != others {
		t.Errorf("virtual servers left: %v %v", left, err)
	}
}

// TestIPSetPorts: the ports of a set tell which virtual servers are kube-proxy's node ports.
func TestIPSetPorts(t *testing.T) {
	ns := namespace(t)
	if _, err := exec.LookPath("ipset"); err != nil {
		t.Skip("needs the program ipset")
	}
	err := ns.Do(func() error {
		c := exec.Command("ipset", "restore")
		c.Stdin = strings.NewReader("create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\nadd KUBE-NODE-PORT-TCP 30080\nadd KUBE-NODE-PORT-TCP 30443\n")
		return c.Run()
	})
	if err != nil {
		t.Fatal(err)
	}
	sets, err := nl.IPSets(ns.Fd())
	if err != nil || len(sets) != 1 || sets[0].Name != "KUBE-NODE-PORT-TCP" || !slices.Equal(sets[0].Ports, []uint16{30080, 30443}) {
		t.Errorf("sets %+v, %v", sets, err)
	}
}
