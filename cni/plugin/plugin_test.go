package plugin_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"nodelet/cni/attach"
	"nodelet/cni/cnitest"
	"nodelet/cni/ipam"
	"nodelet/cni/plugin"
	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// The real program, and the same with failpoints in it.
var bin, failBin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nodelet-cni-test")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	bin, failBin = filepath.Join(dir, "bin"), filepath.Join(dir, "failbin")
	for path, tags := range map[string]string{bin: "", failBin: "failpoint"} {
		if err := cnitest.BuildPlugin(path, tags); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

func leases(t *testing.T, n *cnitest.Node) []ipam.Lease {
	t.Helper()
	s, err := attach.Node{StateDir: n.Config.StateDir}.Dir().View()
	if err != nil {
		t.Fatal(err)
	}
	return s.Leases
}

// nothingLeft fails unless the node is as if no pod had ever been there.
func nothingLeft(t *testing.T, n *cnitest.Node) {
	t.Helper()
	if got := leases(t, n); len(got) != 0 {
		t.Errorf("leases left: %v", got)
	}
	n.In(func(c *nl.Conn) error {
		links, err := c.Links()
		for _, l := range links {
			if l.Kind == "veth" && l.Name != "eth0" {
				t.Errorf("link left: %s", l)
			}
		}
		routes, err2 := c.Routes(nl.Proto)
		if len(routes) > 0 {
			t.Errorf("routes left: %v", routes)
		}
		return errors.Join(err, err2)
	})
}

func TestPodsAndHostTalk(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24", "fd00:244:1::/64")
	a, b := n.AddPod("a"), n.AddPod("b")
	for _, h := range []*cnitest.Host{a.Host, b.Host, n.Host} {
		h.ServeTCP(80)
	}
	for _, v6 := range []bool{false, true} {
		ip := func(h *cnitest.Host) netip.Addr {
			if v6 {
				return h.IP6
			}
			return h.IP
		}
		a.Expect("tcp", cnitest.At(ip(b.Host), 80), "b", ip(a.Host))
		b.Expect("tcp", cnitest.At(ip(a.Host), 80), "a", ip(b.Host))
		n.Expect("tcp", cnitest.At(ip(a.Host), 80), "a", ip(n.Host))
		a.Expect("tcp", cnitest.At(ip(n.Host), 80), "node1", ip(a.Host))
		a.Expect("tcp", cnitest.At(ip(a.Host), 80), "a", ip(a.Host))
	}
	a.Expect("tcp", cnitest.At(netip.MustParseAddr("127.0.0.1"), 80), "a", netip.MustParseAddr("127.0.0.1"))
	a.Expect("tcp", cnitest.At(netip.MustParseAddr("::1"), 80), "a", netip.MustParseAddr("::1"))
	for _, p := range []*cnitest.Pod{a, b} {
		p.In(func(c *nl.Conn) error {
			l, err := c.Link("eth0")
			if l.MTU != cnitest.MTU {
				t.Errorf("mtu of pod %s is %d", p.ID, l.MTU)
			}
			return err
		})
		if err := n.Check(p); err != nil {
			t.Errorf("CHECK %s: %v", p.ID, err)
		}
		if err := n.Del(p); err != nil {
			t.Errorf("DEL %s: %v", p.ID, err)
		}
	}
	nothingLeft(t, n)
}

// A packet of the wire's MTU passes with "do not fragment" on it, a larger one does not.
func TestMTU(t *testing.T) {
	lab := cnitest.New(t)
	n1, n2 := lab.Node("node1", bin, "10.244.1.0/24"), lab.Node("node2", bin, "10.244.2.0/24")
	route(n1, "10.244.2.0/24", n2.IP)
	route(n2, "10.244.1.0/24", n1.IP)
	a, b := n1.AddPod("a"), n2.AddPod("b")
	b.ServeUDP(b.IP, 53)
	const headers = 28 // IPv4 and UDP
	send := func(size int) error {
		return a.NS.Do(func() error {
			c, err := net.Dial("udp", netip.AddrPortFrom(b.IP, 53).String())
			if err != nil {
				return err
			}
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err != nil {
				return err
			}
			var sockErr error
			if err := raw.Control(func(fd uintptr) {
				sockErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
			}); err != nil || sockErr != nil {
				return errors.Join(err, sockErr)
			}
			if _, err := c.Write(make([]byte, size)); err != nil {
				return err
			}
			_ = c.SetDeadline(time.Now().Add(3 * time.Second))
			_, err = c.Read(make([]byte, 100))
			return err
		})
	}
	if err := send(cnitest.MTU - headers); err != nil {
		t.Errorf("a packet as large as the wire allows: %v", err)
	}
	if err := send(cnitest.MTU - headers + 1); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("a larger packet: %v, want %v", err, unix.EMSGSIZE)
	}
}

func route(n *cnitest.Node, dst string, via netip.Addr) {
	n.In(func(c *nl.Conn) error { return c.ReplaceRoute(nl.Route{Dst: netip.MustParsePrefix(dst), Via: via}) })
}

func TestTwoNodes(t *testing.T) {
	lab := cnitest.New(t)
	n1, n2 := lab.Node("node1", bin, "10.244.1.0/24"), lab.Node("node2", bin, "10.244.2.0/24")
	route(n1, "10.244.2.0/24", n2.IP)
	route(n2, "10.244.1.0/24", n1.IP)
	a, b := n1.AddPod("a"), n2.AddPod("b")
	b.ServeTCP(80)
	b.ServeUDP(b.IP, 53)
	a.Expect("tcp", cnitest.At(b.IP, 80), "b", a.IP)
	a.Expect("udp", cnitest.At(b.IP, 53), "b", a.IP)
	n1.Expect("tcp", cnitest.At(b.IP, 80), "b", n1.IP)
}

func TestPodCannotForgeItsAddress(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	a, b := n.AddPod("a"), n.AddPod("b")
	forged := netip.MustParseAddr("10.244.1.77")
	a.In(func(c *nl.Conn) error {
		l, err := c.Link("eth0")
		if err != nil {
			return err
		}
		return c.AddAddr(nl.Addr{Prefix: netip.PrefixFrom(forged, 32), Link: l.Index})
	})
	b.ServeUDP(b.IP, 53)
	honest := func() {
		t.Helper()
		if answer, err := a.Ask("udp", b.IP, 53, a.IP); err != nil || answer != "b "+a.IP.String() {
			t.Fatalf("the honest question was answered with %q, %v", answer, err)
		}
	}
	honest()
	before := datagrams(t, b)
	// The answer to a forged packet would be lost anyway, so it is told by what the server read. What
	// is asked after it is read after it: nothing depends on how fast the machine is.
	a.Do(func() error {
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(forged, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.IP, 53)))
		if err == nil {
			_, err = c.Write([]byte("?"))
			err = errors.Join(err, c.Close())
		}
		return err
	})
	honest()
	if heard := datagrams(t, b) - before; heard != 1 {
		t.Errorf("%d datagrams arrived, want the honest one only", heard)
	}
}

// datagrams is how many a pod's programs have read.
func datagrams(t *testing.T, h *cnitest.Pod) (n int) {
	t.Helper()
	for line := range strings.Lines(h.Run("cat", "/proc/net/snmp")) {
		if f := strings.Fields(line); f[0] == "Udp:" && f[1] != "InDatagrams" {
			if _, err := fmt.Sscan(f[1], &n); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

func TestAddTwiceGivesTheSame(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	a := n.AddPod("a")
	first := a.IP
	if err := n.Add(a); err != nil || a.IP != first {
		t.Fatalf("second ADD: %v, %s then %s", err, first, a.IP)
	}
	n.ServeTCP(80)
	a.Expect("tcp", cnitest.At(n.IP, 80), "node1", a.IP)
	if got := leases(t, n); len(got) != 1 || got[0].Pod != "default/a" || got[0].PodUID != "uid-a" || got[0].Netns != a.Path {
		t.Fatalf("leases: %v", got)
	}
}

func TestDelOfWhatIsGone(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	never := n.Sandbox("never")
	if err := n.Del(never); err != nil {
		t.Errorf("DEL of a sandbox that was never attached: %v", err)
	}
	a := n.AddPod("a")
	_ = a.NS.Close()
	if err := netns.Delete(a.Path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Del(a); err != nil {
			t.Errorf("DEL without the namespace: %v", err)
		}
	}
	b := n.AddPod("b")
	if err := os.RemoveAll(n.Config.StateDir); err != nil {
		t.Fatal(err)
	}
	n.Config.Subnets = nil // a node that has lost its pod CIDR
	if err := n.Del(b); err != nil {
		t.Errorf("DEL without any record: %v", err)
	}
	nothingLeft(t, n)
}

// TestLostState: without its file the state is rebuilt from the kernel, and no
// address in use is given out again.
func TestLostState(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/30")
	a := n.AddPod("a")
	if err := os.Remove(filepath.Join(n.Config.StateDir, "attachments")); err != nil {
		t.Fatal(err)
	}
	b := n.AddPod("b")
	if a.IP == b.IP {
		t.Fatalf("%s was given out twice", a.IP)
	}
	if err := n.Check(a); err != nil {
		t.Errorf("CHECK of the pod whose record was lost: %v", err)
	}
	for _, p := range []*cnitest.Pod{a, b} {
		if err := n.Del(p); err != nil {
			t.Error(err)
		}
	}
	nothingLeft(t, n)
}

// TestDeadSandboxesMakeWay: addresses of namespaces that are gone are taken back when needed.
func TestDeadSandboxesMakeWay(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/30") // two addresses
	a, _ := n.AddPod("a"), n.AddPod("b")
	c := n.Sandbox("c")
	err := n.Add(c)
	var e *types.Error
	if !errors.As(err, &e) || e.Code != types.ErrTryAgainLater || !strings.Contains(e.Msg, "no free address in 10.244.1.0/30") {
		t.Fatalf("third pod of two: %v", err)
	}
	_ = a.NS.Close()
	if err := netns.Delete(a.Path); err != nil {
		t.Fatal(err)
	}
	// The kernel takes the link away some time after the namespace.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err = n.Add(c); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil || c.IP != a.IP {
		t.Fatalf("got %s, %v", c.IP, err)
	}
}

// TestKilledAnywhere kills the plugin after every step of ADD and of DEL, and
// then does what a runtime does: ADD again, or DEL.
func TestKilledAnywhere(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", failBin, "10.244.1.0/29", "fd00:244:1::/64")
	n.ServeTCP(80)
	ports := []plugin.PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "TCP"}}
	kill := func(at string, call func() error) {
		t.Helper()
		t.Setenv("NODELET_FAILPOINT", at)
		err := call()
		t.Setenv("NODELET_FAILPOINT", "")
		if err == nil {
			t.Fatalf("nothing was killed at %s", at)
		}
	}
	addSteps := []string{"lease", "veth", "host-sysctls", "pod-up", "neigh-eth0", "route-eth0", "ports"}
	for i, at := range addSteps {
		again := n.Sandbox(fmt.Sprintf("again%d", i))
		kill(at, func() error { return n.Add(again, ports...) })
		if err := n.Add(again, ports...); err != nil {
			t.Fatalf("ADD after a kill at %s: %v", at, err)
		}
		again.Expect("tcp", cnitest.At(n.IP, 80), "node1", again.IP)
		if err := n.Del(again, ports...); err != nil {
			t.Fatalf("DEL: %v", err)
		}
		gone := n.Sandbox(fmt.Sprintf("gone%d", i))
		kill(at, func() error { return n.Add(gone, ports...) })
		if err := n.Del(gone, ports...); err != nil {
			t.Fatalf("DEL after a kill at %s: %v", at, err)
		}
		nothingLeft(t, n)
	}
	for i, at := range []string{"ports-closed", "links-removed", "released"} {
		p := n.Sandbox(fmt.Sprintf("del%d", i))
		if err := n.Add(p, ports...); err != nil {
			t.Fatal(err)
		}
		kill(at, func() error { return n.Del(p, ports...) })
		if err := n.Del(p, ports...); err != nil {
			t.Fatalf("DEL after a kill at %s: %v", at, err)
		}
		nothingLeft(t, n)
	}
}

func TestGC(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	a, b := n.AddPod("a"), n.AddPod("b", plugin.PortMapping{HostPort: 8080, ContainerPort: 80})
	cni, list, err := n.CNI()
	if err != nil {
		t.Fatal(err)
	}
	collect := func(valid ...types.GCAttachment) {
		t.Helper()
		n.Do(func() error {
			return cni.GCNetworkList(context.Background(), list, &libcni.GCArgs{ValidAttachments: valid})
		})
	}
	collect(types.GCAttachment{ContainerID: a.ID, IfName: "eth0"})
	got := leases(t, n)
	if len(got) != 1 || got[0].ContainerID != a.ID {
		t.Fatalf("leases after GC: %v", got)
	}
	if err := n.Check(a); err != nil {
		t.Errorf("CHECK of the attachment that was kept: %v", err)
	}
	if err := n.Check(b); err == nil {
		t.Error("CHECK of a collected attachment succeeded")
	}
	collect()
	nothingLeft(t, n)
}

func TestStatusAndVersion(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/30")
	cni, list, err := n.CNI()
	if err != nil {
		t.Fatal(err)
	}
	ask := func() (err error) {
		n.Do(func() error { err = cni.GetStatusNetworkList(context.Background(), list); return nil })
		return err
	}
	if err := ask(); err != nil {
		t.Errorf("STATUS: %v", err)
	}
	n.AddPod("a")
	n.AddPod("b")
	var e *types.Error
	if err := ask(); !errors.As(err, &e) || e.Code != 50 {
		t.Errorf("STATUS of a full node: %v", err)
	}
	info, err := cni.GetVersionInfo(context.Background(), "nodelet-cni")
	if err != nil || !slices.Contains(info.SupportedVersions(), "1.1.0") || !slices.Contains(info.SupportedVersions(), "0.4.0") {
		t.Errorf("VERSION: %v %v", info, err)
	}
	if list.CNIVersion != "1.1.0" {
		t.Errorf("libcni chose version %s", list.CNIVersion)
	}
}

// TestOldRuntime: a runtime that does not know cniVersions gets 1.0.0 answers.
func TestOldRuntime(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	p := n.Sandbox("a")
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0"} {
		n.Config.CNIVersion, n.Config.Type = version, plugin.Type
		stdin, err := json.Marshal(n.Config)
		if err != nil {
			t.Fatal(err)
		}
		out, err := run(n, "ADD", p, stdin)
		if err != nil || !strings.Contains(out, `"cniVersion": "`+version+`"`) || !strings.Contains(out, "10.244.1.1/32") {
			t.Errorf("%s: %v: %s", version, err, out)
		}
	}
}

// run executes the plugin as a runtime without libcni would.
func run(n *cnitest.Node, verb string, p *cnitest.Pod, stdin []byte) (out string, err error) {
	n.Do(func() error {
		cmd := exec.Command(filepath.Join(n.Bin, "nodelet-cni"))
		cmd.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + p.ID, "CNI_NETNS=" + p.Path, "CNI_IFNAME=eth0", "CNI_PATH=" + n.Bin}
		cmd.Stdin = strings.NewReader(string(stdin))
		b, runErr := cmd.Output()
		out, err = string(b), runErr
		return nil
	})
	return out, err
}

func TestLoopbackType(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	p := n.Sandbox("a")
	out, err := run(n, "ADD", p, []byte(`{"cniVersion":"0.3.1","name":"cni-loopback","type":"loopback"}`))
	if err != nil || !strings.Contains(out, "127.0.0.1/8") {
		t.Fatalf("ADD: %v: %s", err, out)
	}
	p.ServeTCP(80)
	p.Expect("tcp", cnitest.At(netip.MustParseAddr("127.0.0.1"), 80), "a", netip.MustParseAddr("127.0.0.1"))
	if out, err := run(n, "DEL", p, []byte(`{"cniVersion":"0.3.1","name":"cni-loopback","type":"loopback"}`)); err != nil {
		t.Fatalf("DEL: %v: %s", err, out)
	}
	nothingLeft(t, n)
}

func TestBadInput(t *testing.T) {
	lab := cnitest.New(t)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	p := n.Sandbox("a")
	good := `"cniVersion":"1.0.0","name":"nodelet","type":"nodelet-cni","stateDir":"` + n.Config.StateDir + `","subnets":["10.244.1.0/24"],"mtu":1400`
	for name, c := range map[string]struct{ stdin, want string }{
		"not json":        {`{`, "error"},
		"no state":        {`{"cniVersion":"1.0.0","name":"nodelet","type":"nodelet-cni"}`, "stateDir"},
		"relative state":  {`{"cniVersion":"1.0.0","name":"nodelet","type":"nodelet-cni","stateDir":"x"}`, "not an absolute path"},
		"no subnets":      {`{"cniVersion":"1.0.0","name":"nodelet","type":"nodelet-cni","stateDir":"/x"}`, "no pod CIDR"},
		"bad subnet":      {`{"cniVersion":"1.0.0","name":"nodelet","type":"nodelet-cni","stateDir":"/x","subnets":["10.244.0.0/99"]}`, "ParsePrefix"},
		"two of a family": {`{"cniVersion":"1.0.0","name":"nodelet","type":"nodelet-cni","stateDir":"/x","subnets":["10.244.0.0/24","10.245.0.0/24"]}`, "at most one per family"},
		"no mtu":          {`{"cniVersion":"1.0.0","name":"nodelet","type":"nodelet-cni","stateDir":"` + n.Config.StateDir + `","subnets":["10.244.1.0/24"]}`, "mtu 0"},
		"future version":  {`{"cniVersion":"9.0.0","name":"nodelet","type":"nodelet-cni"}`, "incompatible"},
		"chained":         {`{` + good + `,"prevResult":{"cniVersion":"1.0.0"}}`, "must be the first"},
		"bad protocol":    {`{` + good + `,"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":1,"protocol":"icmp"}]}}`, "not tcp, udp or sctp"},
		"bad port":        {`{` + good + `,"runtimeConfig":{"portMappings":[{"hostPort":70000,"containerPort":1}]}}`, "1 to 65535"},
		"bad host ip":     {`{` + good + `,"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":1,"hostIP":"x"}]}}`, "not an IP address"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := run(n, "ADD", p, []byte(c.stdin))
			var answer types.Error
			if err == nil || json.Unmarshal([]byte(out), &answer) != nil || answer.Code == 0 {
				t.Fatalf("ADD: %v: %s", err, out)
			}
			if !strings.Contains(answer.Msg+answer.Details, c.want) {
				t.Errorf("message %q lacks %q", answer.Msg+answer.Details, c.want)
			}
		})
	}
	missing := n.Sandbox("b")
	missing.Path += "-missing"
	if out, err := run(n, "ADD", missing, []byte("{"+good+"}")); err == nil || !strings.Contains(out, "network namespace not found") {
		t.Errorf("ADD into a namespace that is not there: %v: %s", err, out)
	}
	nothingLeft(t, n)
}

func BenchmarkAddDel(b *testing.B) {
	lab := cnitest.New(b)
	n := lab.Node("node1", bin, "10.244.1.0/24")
	n.Config.CNIVersion, n.Config.Type = "1.0.0", plugin.Type
	stdin, err := json.Marshal(n.Config)
	if err != nil {
		b.Fatal(err)
	}
	for _, verb := range []string{"VERSION", "ADD", "DEL"} {
		b.Run(verb, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				p := n.Sandbox(fmt.Sprintf("%s%d", verb, len(took)))
				if verb == "DEL" {
					_, _ = run(n, "ADD", p, stdin)
				}
				b.StartTimer()
				start := time.Now()
				if out, err := run(n, verb, p, stdin); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				took = append(took, time.Since(start))
				b.StopTimer()
				_, _ = run(n, "DEL", p, stdin)
				_ = p.NS.Close()
				_ = netns.Delete(p.Path)
				b.StartTimer()
			}
			// The machine is shared: the mean says more of the neighbours.
			slices.Sort(took)
			b.ReportMetric(float64(took[0].Microseconds()), "min-µs")
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		})
	}
}
