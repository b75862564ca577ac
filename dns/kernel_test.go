package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/netns/nstest"
	"nodelet/internal/nft"
	"nodelet/internal/nl"
	"nodelet/internal/store"
)

// node is a host with one pod, each with its own network namespace.
type node struct {
	pod  *netns.NS
	conn *nl.Conn
}

var (
	serviceIP  = netip.MustParseAddr("10.96.0.10")
	serviceIP6 = netip.MustParseAddr("fd00:96::10")
)

func newNode(t *testing.T) *node {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Addresses of IPv6 would else be of no use for a second or two.
	withoutDAD := func() error {
		for _, key := range []string{"ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"} {
			if _, err := netns.WriteSysctl(key, "0"); err != nil {
				return err
			}
		}
		return nil
	}
	must(withoutDAD())
	c, err := nl.Open()
	must(err)
	t.Cleanup(c.Close)
	must(c.SetUp(1))
	pod, err := netns.New()
	must(err)
	t.Cleanup(func() { pod.Close() })
	link, err := c.AddVeth(nl.Veth{Name: "veth0", MTU: 1500, PeerNS: pod.Fd(), PeerName: "eth0"})
	must(err)
	for _, p := range []string{"10.244.0.1/24", "fd00:10::1/64"} {
		must(c.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix(p), Link: link}))
	}
	must(pod.Do(func() error {
		if err := withoutDAD(); err != nil {
			return err
		}
		c, err := nl.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		l, err := c.Link("eth0")
		if err != nil {
			return err
		}
		errs := []error{c.SetUp(1), c.SetUp(l.Index)}
		for _, p := range []string{"10.244.0.5/24", "10.244.0.6/24", "fd00:10::5/64"} {
			errs = append(errs, c.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix(p), Link: l.Index}))
		}
		for dst, via := range map[string]string{"0.0.0.0/0": "10.244.0.1", "::/0": "fd00:10::1"} {
			errs = append(errs, c.ReplaceRoute(nl.Route{Kind: nl.Unicast, Dst: netip.MustParsePrefix(dst), Via: netip.MustParseAddr(via), Link: l.Index}))
		}
		return errors.Join(errs...)
	}))
	return &node{pod: pod, conn: c}
}

// checkSource sends over a link without an address of its own, as the links of
// pods are: the kernel must not take the DNS address as the source.
func (n *node) checkSource(t *testing.T) {
	t.Helper()
	link, err := n.conn.AddVeth(nl.Veth{Name: "veth1", MTU: 1500, PeerNS: n.pod.Fd(), PeerName: "eth1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{"10.9.9.9", "fd00:9::9"} {
		a := netip.MustParseAddr(dst)
		if err := n.conn.ReplaceRoute(nl.Route{Kind: nl.Unicast, Dst: netip.PrefixFrom(a, a.BitLen()), Link: link}); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("udp", netip.AddrPortFrom(a, 9).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr(); from == serviceIP || from == serviceIP6 {
			t.Errorf("packets to %s leave with the source %s", dst, from)
		}
	}
}

// ask asks from the pod.
func (n *node) ask(network string, server netip.Addr, name string) (*dns.Msg, error) {
	var reply *dns.Msg
	err := n.pod.Do(func() error {
		m := new(dns.Msg)
		m.SetQuestion(dns.Fqdn(name), dns.TypeA)
		// A neighbour solicitation that is lost while the link comes up is repeated after a second.
		c := dns.Client{Net: network, Timeout: 5 * time.Second}
		var err error
		reply, _, err = c.Exchange(m, netip.AddrPortFrom(server, 53).String())
		return err
	})
	return reply, err
}

// track makes the kernel track connections, as any NAT rule does, and count gives how many it tracks.
func track(t *testing.T) {
	t.Helper()
	c, err := nft.Open(nft.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rules := nft.Ruleset{Table: nft.Table{Family: nft.Inet, Name: "test"}, Chains: []nft.Chain{{
		Name: "post", Base: &nft.Base{Type: nft.NAT, Hook: nft.Postrouting, Priority: nft.PrioritySNAT},
		Rules: []nft.Rule{{Do: []nft.Stmt{nft.Is(nft.OutIf, "nosuch"), nft.Masquerade()}}},
	}}}
	if _, err := c.Ensure(t.Context(), &rules); err != nil {
		t.Fatal(err)
	}
}

func tracked(t *testing.T) string {
	t.Helper()
	count, err := netns.ReadSysctl("netfilter/nf_conntrack_count")
	if err != nil {
		t.Skipf("no connection tracking: %v", err)
	}
	return strings.TrimSpace(count)
}

func kernelConfig() Config {
	c := DefaultConfig("cluster.local", serviceIP, serviceIP6)
	c.ResolvConf, c.ResolvedConf = "/nonexistent", "/nonexistent"
	return c
}

func TestKernelServiceAddress(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	n := newNode(t)
	track(t)
	c := kernelConfig()

	s := startSynced(t, c)
	eventually(t, "the rules", func() bool {
		left, err := s.Residue(t.Context())
		return err == nil && len(left) == 3
	})
	for _, network := range []string{"udp", "tcp"} {
		for _, a := range []netip.Addr{serviceIP, serviceIP6} {
			r, err := n.ask(network, a, "web.default.svc.cluster.local")
			if err != nil {
				t.Fatalf("%s %s: %v", network, a, err)
			}
			expect(t, r, "NOERROR 10.96.0.5")
		}
	}
	expect(t, s.ask(t, "udp", "web.default.svc.cluster.local", dns.TypeA), "NOERROR 10.96.0.5")
	if got := tracked(t); got != "0" {
		t.Errorf("%s connections are tracked", got)
	}
	digFromPod(t, n)
	n.checkSource(t)

	s.stop()
	if left, err := s.Residue(t.Context()); err != nil || len(left) != 3 {
		t.Errorf("after the end there is %q (%v), want two addresses and the table", left, err)
	}
	for range 2 {
		if err := s.Cleanup(t.Context()); err != nil {
			t.Error(err)
		}
		if left, err := s.Residue(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("after cleanup there is %q (%v)", left, err)
		}
	}

	c.NoTrack = false
	startSynced(t, c)
	if _, err := n.ask("udp", serviceIP, "web.default.svc.cluster.local"); err != nil {
		t.Fatal(err)
	}
	if tracked(t) == "0" {
		t.Error("without notrack the kernel tracks nothing either: the test proves nothing")
	}
}

func startSynced(t *testing.T, c Config) *server {
	t.Helper()
	st, w := store.New()
	s := startOn(t, c, st, w)
	s.sync(clusterIP("default/web", "10.96.0.5"))
	eventually(t, "the address", func() bool {
		left, err := s.host.Observe(t.Context())
		return err == nil && len(left) >= len(c.ListenAddrs)
	})
	return s
}

// digFromPod uses a client that is not written in Go.
func digFromPod(t *testing.T, n *node) {
	t.Helper()
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Log("dig is not installed: not tried")
		return
	}
	err = n.pod.Do(func() error {
		for _, args := range []string{"+noall +answer +comments", "+tcp +noall +answer +comments", "+cookie +dnssec +nsid +noall +answer +comments"} {
			out, err := exec.Command(dig, append(strings.Fields(args), "@10.96.0.10", "WEB.default.svc.cluster.local", "A")...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "10.96.0.5") || strings.Contains(string(out), "recursion requested but not") {
				return fmt.Errorf("dig %s: %w\n%s", args, err, out)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestKernelClients asks as the programs in pods do: by the C library, by Go's
// own resolver, with a pod's search path and ndots.
func TestKernelClients(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	n := newNode(t)
	startSynced(t, kernelConfig())
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// A mount namespace of its own has the pod's resolv.conf and plain nsswitch.
	run := func(script string) string {
		var out []byte
		err := n.pod.Do(func() (err error) {
			out, err = exec.Command("unshare", "-m", "sh", "-c", "mount --bind "+conf+" /etc/resolv.conf && "+script).CombinedOutput()
			return err
		})
		if err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
		return string(out)
	}
	for program, script := range map[string]string{
		"getent":  "getent -s hosts:dns ahostsv4 web", // glibc: A and AAAA at once from one socket
		"host":    "host web",
		"busybox": "busybox nslookup web.default.svc.cluster.local", // Debian's is linked against glibc
	} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("%s is not installed: not tried", program)
			continue
		}
		if out := run(script); !strings.Contains(out, "10.96.0.5") {
			t.Errorf("%s:\n%s", script, out)
		}
	}
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		err = n.pod.Do(func() (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, network, "10.96.0.10:53")
			return err
		})
		return conn, err
	}}
	if got, err := r.LookupHost(t.Context(), "web.default.svc.cluster.local."); err != nil || len(got) != 1 || got[0] != "10.96.0.5" {
		t.Errorf("Go's resolver: %q, %v", got, err)
	}
}

// kernelDrops is how many packets the queues of all cores have dropped, the
// second column of softnet_stat, and the buffers of UDP sockets.
func kernelDrops(t *testing.T) (sum uint64) {
	t.Helper()
	snmp, err := os.ReadFile("/proc/self/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(snmp)) {
		switch f := strings.Fields(line); {
		case f[0] != "Udp:":
		case names == nil:
			names = f
		default:
			n, err := strconv.ParseUint(f[slices.Index(names, "RcvbufErrors")], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		n, err := strconv.ParseUint(strings.Fields(line)[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// TestKernelFloodDoesNotStarve: while a pod sends as fast as it can and never
// reads, another has its answers, asking once each. On a machine that is full the
// kernel's own queue before all rules, which all pods of a core share, runs over
// now and then, and a worker that is not scheduled for a third of a second finds
// its socket's buffer full: what the kernel says it dropped may be missing, one in
// a hundred at most.
func TestKernelFloodDoesNotStarve(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	n := newNode(t)
	s := startSynced(t, kernelConfig())
	eventually(t, "the rules", func() bool {
		left, err := s.Residue(t.Context())
		return err == nil && len(left) == 3
	})
	dial := func(from string) (conn *net.UDPConn) {
		t.Helper()
		err := n.pod.Do(func() (err error) {
			conn, err = net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(serviceIP, 53)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	stop := make(chan struct{})
	var sent atomic.Uint64
	var floods sync.WaitGroup
	for range 2 { // two ports, so that both workers' sockets are hit
		conn := dial("10.244.0.5")
		floods.Go(func() {
			packet := packed(t, "web.default.svc.cluster.local", dns.TypeA, 1)
			for {
				select {
				case <-stop:
					return
				default:
					conn.Write(packet)
					sent.Add(1)
				}
			}
		})
	}
	eventually(t, "the flood", func() bool { return sent.Load() > 100_000 })
	overrun, lost, buf := kernelDrops(t), 0, make([]byte, 1500)
	for id := range uint16(200) {
		conn := dial("10.244.0.6") // a port of its own, as resolver libraries do
		if _, err := conn.Write(packed(t, "web.default.svc.cluster.local", dns.TypeA, id)); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if k, err := conn.Read(buf); err != nil || k < 12 || buf[0] != byte(id>>8) || buf[1] != byte(id) {
			lost++
		}
	}
	close(stop)
	floods.Wait()
	if overrun = kernelDrops(t) - overrun; lost > 2 || lost > 0 && overrun == 0 {
		t.Errorf("%d of 200 queries got no answer; the kernel's queue dropped %d packets", lost, overrun)
	}
	if answered := replies(s); answered > sent.Load()/2 {
		t.Errorf("%d of a flood of %d were answered: nothing was cut", answered, sent.Load())
	}
	if list, err := exec.LookPath("nft"); err == nil { // other programs must be able to read the table
		if out, err := exec.Command(list, "list", "table", "inet", "nodelet-dns").CombinedOutput(); err != nil || !strings.Contains(string(out), "limit rate over 15000/second") {
			t.Errorf("nft list: %v\n%s", err, out)
		}
	}
}

func TestKernelPortTaken(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	newNode(t)
	other, err := net.ListenPacket("udp4", "0.0.0.0:53")
	if err != nil {
		t.Fatal(err)
	}
	st, w := store.New()
	c := kernelConfig()
	d, err := New(c, Deps{Store: st, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	w.Services.Replace(map[model.Key]*model.Service{})
	w.Slices.Replace(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	want := fmt.Sprintf("(pid %d)", os.Getpid())
	eventually(t, "the owner of the port to be named", func() bool {
		err := d.Ready()
		return err != nil && strings.Contains(err.Error(), want) && strings.Contains(err.Error(), "0.0.0.0:53")
	})
	other.Close()
	eventually(t, "the port to be had", func() bool { return d.Ready() == nil })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestKernelKill9 kills a serving process at different moments: the next one
// serves at once, without anything being cleaned up in between.
func TestKernelKill9(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	const mark = "DNS_TEST_SERVE"
	if os.Getenv(mark) != "" {
		startSynced(t, kernelConfig())
		fmt.Println("serving")
		select {}
	}
	n := newNode(t)
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKernelKill9$")
		cmd.Env = append(os.Environ(), mark+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if round > 0 {
			began := time.Now()
			eventually(t, "an answer", func() bool {
				r, err := n.ask("udp", serviceIP, "web.default.svc.cluster.local")
				return err == nil && r.Rcode == dns.RcodeSuccess
			})
			t.Logf("round %d: an answer after %s", round, time.Since(began))
		} // the first is killed while it starts
		cmd.Process.Kill()
		cmd.Wait()
	}
	d, err := New(kernelConfig(), Deps{Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Cleanup(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := d.Residue(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left %q, %v", left, err)
	}
}
