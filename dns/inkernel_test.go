package dns

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/miekg/dns"

	"nodelet/dns/wire"
	"nodelet/dns/zone"
	"nodelet/dns/zone/zonetest"
	"nodelet/internal/golden"
	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/netns/nstest"
	"nodelet/internal/nl"
)

// podSocket is a socket of the pod, connected to the DNS address.
func (n *node) podSocket(t *testing.T) (conn *net.UDPConn) {
	t.Helper()
	err := n.pod.Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(serviceIP, 53)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// exchange sends one packet and reads one.
func exchange(t *testing.T, conn *net.UDPConn, packet []byte) []byte {
	t.Helper()
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2000)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	k, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:k]
}

// zoneReplies are all that a zone may answer: it turns lists round. None: the question is not for it.
func zoneReplies(z *zone.Zone, packet []byte) (out [][]byte) {
	var q wire.Query
	if q.Parse(packet) != wire.Accept || q.Type == wire.TypeANY {
		return nil
	}
	for turn := range uint32(64) {
		r := z.Answer(nil, &q, zone.Options{Limit: q.Limit(false), Turn: turn})
		if r.Outcome != zone.Answered {
			return nil
		}
		out = append(out, r.Msg)
	}
	return out
}

// TestKernelXDP asks every question of the zone's archives from a pod, over a
// veth with the program on it: each reply has the bytes that the zone gives.
func TestKernelXDP(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	n := newNode(t)
	inKernel, asked := uint64(0), 0
	golden.Run(t, "zone/testdata/*.txtar", func(t *golden.Case) {
		set := zonetest.ParseSetting(t.T, t.Section("config"))
		w := zonetest.New()
		if !set.Unsynced {
			w = zonetest.Parse(t.T, t.Section("objects"))
		}
		c := kernelConfig()
		c.XDP, c.ClusterDomain = true, set.Domain
		c.Pods, _ = zone.ParsePodMode(set.Pods)
		s := startOn(t.T, c, w.Store, w.Writers)
		eventually(t, "the addresses", func() bool { p := s.hostErr.Load(); return p != nil && *p == nil })
		if !set.Unsynced {
			s.settle()
		}
		conn := n.podSocket(t.T)
		for line, question := range zonetest.Questions(t.T, t.Section("ask")) {
			for _, size := range []uint16{0, 1232} {
				m := question.Msg.Copy()
				if size > 0 && m.IsEdns0() == nil {
					m.SetEdns0(size, true)
				}
				packet, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				want := zoneReplies(s.Zone(), packet)
				if want == nil {
					continue
				}
				asked++
				if got := exchange(t.T, conn, packet); !slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(w, got) }) {
					t.Errorf("%s:\ngot  %x\nwant %x", line, got, want[0])
				}
			}
		}
		inKernel += s.Stats().Kernel
		s.stop()
	})
	t.Logf("%d of %d questions were answered in the kernel", inKernel, asked)
	if inKernel < 80 || inKernel > uint64(asked) {
		t.Errorf("%d of %d questions were answered in the kernel", inKernel, asked)
	}
}

// hasProgram reports whether a device has an XDP program.
func hasProgram(t *testing.T, device string) bool {
	t.Helper()
	out, err := exec.Command("ip", "link", "show", device).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Contains(string(out), "xdp")
}

// TestKernelXDPLife: devices come and go, the Corefile may take the answers
// away, counters and `why` tell, and nothing stays.
func TestKernelXDPLife(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	n := newNode(t)
	c := kernelConfig()
	c.XDP, c.Corefile = true, model.ParseKey("kube-system/coredns")
	s := startSynced(t, c)
	conn := n.podSocket(t)
	question := packed(t, "web.default.svc.cluster.local", dns.TypeA, 7)
	inKernel := func() uint64 {
		before := s.Stats().Kernel
		exchange(t, conn, question)
		return s.Stats().Kernel - before
	}
	if inKernel() != 1 || !hasProgram(t, "veth0") {
		t.Fatal("the kernel does not answer")
	}
	checkCounted(t, s)
	w, err := s.Explain(Question{Name: "web.default.svc.cluster.local.", Type: dns.TypeA, Client: netip.MustParseAddr("10.244.0.5")})
	if err != nil || !strings.Contains(w.Steps[0].From, "from the kernel, by XDP") {
		t.Errorf("why: %+v, %v", w, err)
	}
	n.checkNewDevice(t)

	s.corefile(".:53 {\n kubernetes cluster.local\n rewrite name web.default.svc.cluster.local other.default.svc.cluster.local\n}")
	eventually(t, "the kernel to answer no more", func() bool { return inKernel() == 0 && !hasProgram(t, "veth0") })
	if h := s.Health(); !strings.Contains(h.Error, "rewrite") {
		t.Errorf("health: %+v", h)
	}
	s.corefile(".:53 {\n kubernetes cluster.local {\n ttl 9\n }\n hosts {\n 10.9.9.9 host.example\n fallthrough\n }\n}")
	eventually(t, "the kernel to answer again", func() bool { return inKernel() == 1 })
	var m dns.Msg
	if err := m.Unpack(exchange(t, conn, question)); err != nil || m.Answer[0].Header().Ttl != 9 {
		t.Errorf("with another TTL: %s, %v", &m, err)
	}

	s.stop()
	if hasProgram(t, "veth0") {
		t.Error("the program outlives the server")
	}
}

// corefile sets the ConfigMap.
func (s *server) corefile(text string) {
	k := model.ConfigKey{Kind: model.ConfigMap, Key: s.c.Corefile}
	s.writers.Configs.Set(k, &model.Config{Data: map[string][]byte{corefileKey: []byte(text)}})
	s.settle()
}

func checkCounted(t *testing.T, s *server) {
	t.Helper()
	st := s.Stats()
	i := slices.IndexFunc(st.Requests, func(r RequestCount) bool {
		return r.Zone == "cluster.local." && r.Proto == "udp" && r.Family == "1" && r.Type == "A"
	})
	j := slices.IndexFunc(st.Responses, func(r ResponseCount) bool { return r.Zone == "cluster.local." && r.RCode == "NOERROR" })
	d := st.Durations["cluster.local."]
	if i < 0 || j < 0 || st.Requests[i].Count < st.Kernel || st.Responses[j].Count < st.Kernel || d.Count < st.Kernel || d.Buckets[firstBucket.Seconds()] < st.Kernel {
		t.Errorf("counters leave the kernel's out: %+v", st)
	}
}

// checkNewDevice: a pod that comes later is answered in the kernel as well, one
// whose device has a program of somebody else's by the socket.
func (n *node) checkNewDevice(t *testing.T) {
	t.Helper()
	pod, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	if _, err := n.conn.AddVeth(nl.Veth{Name: "veth9", MTU: 1500, PeerNS: pod.Fd(), PeerName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program on the new device", func() bool { return hasProgram(t, "veth9") })
}

// TestKernelXDPForeign: a device that another XDP program has is left to it.
func TestKernelXDPForeign(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	n := newNode(t)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	l, err := n.conn.Link("veth0")
	if err != nil {
		t.Fatal(err)
	}
	other, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: l.Index, Flags: link.XDPGenericMode})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := kernelConfig()
	c.XDP = true
	s := startSynced(t, c)
	exchange(t, n.podSocket(t), packed(t, "web.default.svc.cluster.local", dns.TypeA, 7))
	if s.Stats().Kernel != 0 {
		t.Error("the other program was thrown off")
	}
	s.stop()
	if info, err := other.Info(); err != nil || info.XDP().Ifindex != uint32(l.Index) {
		t.Errorf("the other program: %+v, %v", info, err)
	}
}

// TestKernelXDPKilled: after kill -9 nothing answers in the kernel with what
// nobody keeps current; a new daemon answers there again.
func TestKernelXDPKilled(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	const mark = "DNS_TEST_SERVE"
	c := kernelConfig()
	c.XDP = true
	if os.Getenv(mark) != "" {
		startSynced(t, c)
		fmt.Println("serving")
		select {}
	}
	newNode(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKernelXDPKilled$")
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program", func() bool { return hasProgram(t, "veth0") })
	cmd.Process.Kill()
	cmd.Wait()
	eventually(t, "the program to go", func() bool { return !hasProgram(t, "veth0") })
	startSynced(t, c)
	eventually(t, "the next program", func() bool { return hasProgram(t, "veth0") })
}

func TestXDPNeedsIPv4(t *testing.T) {
	c := DefaultConfig("cluster.local", serviceIP6)
	c.XDP = true
	if _, err := New(c, Deps{Log: discard()}); err == nil || !strings.Contains(err.Error(), "IPv4") {
		t.Error(errors.Join(errors.New("want an error"), err))
	}
}
