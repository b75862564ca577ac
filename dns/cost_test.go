package dns

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"nodelet/dns/zone/zonetest"
)

// TestKernelXDPCost prints what an answer costs by XDP and by a socket, over a
// veth: DNS_TEST_COST=1 go test ./dns -run XDPCost -v. Client and server are one
// process and the kernel works in its name, so its processor time is all there
// is, whatever else the machine does. What sending costs is found by a program
// that drops every packet where the other would answer it.
func TestKernelXDPCost(t *testing.T) {
	if os.Getenv("DNS_TEST_COST") == "" {
		t.Skip("measures and checks nothing: DNS_TEST_COST=1")
	}
	if !inNamespace(t) {
		return
	}
	n := newNode(t)
	drop, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer drop.Close()
	w := zonetest.Big(10_000)
	c := kernelConfig()
	c.Limits.ClientQPS = 0
	costs := map[string][]float64{}
	for range 5 { // in turns, so that all meet the same noise
		costs["sending alone"] = append(costs["sending alone"], n.costDropped(t, drop))
		for name, xdp := range map[string]bool{"sockets": false, "XDP": true} {
			c.XDP = xdp
			s := startOn(t, c, w.Store, w.Writers)
			eventually(t, "the addresses", func() bool { return s.Ready() == nil })
			s.settle()
			costs[name] = append(costs[name], n.cost(t, s))
			s.stop()
		}
	}
	for name, all := range costs {
		slices.Sort(all)
		fmt.Printf("%-13s %5.0f ns (%.0f to %.0f)\n", name, all[len(all)/2], all[0], all[len(all)-1])
	}
	base := costs["sending alone"][2]
	for _, name := range []string{"sockets", "XDP"} {
		net := costs[name][2] - base
		fmt.Printf("%-7s without sending: %.0f ns, %.0f answers for a second of processor time\n", name, net, 1e9/net)
	}
}

const costQueries = 32 * 1000

// cost gives the processor time of one query in ns.
func (n *node) cost(t *testing.T, s *server) float64 {
	conn := n.podSocket(t)
	defer conn.Close()
	answered := replies(s)
	begin := processTime(t)
	sendMany(t, conn, true)
	took := processTime(t) - begin
	if now := replies(s) - answered; now < costQueries*9/10 {
		t.Errorf("%d of %d queries were answered", now, costQueries)
	}
	return float64(took) / costQueries
}

// costDropped is the same with nobody there.
func (n *node) costDropped(t *testing.T, drop *ebpf.Program) float64 {
	l, err := n.conn.Link("veth0")
	if err != nil {
		t.Fatal(err)
	}
	// Answers to ARP are dropped as well.
	err = n.pod.Do(func() error {
		return exec.Command("ip", "neigh", "replace", "10.244.0.1", "lladdr", l.MAC.String(), "dev", "eth0", "nud", "permanent").Run()
	})
	if err != nil {
		t.Fatal(err)
	}
	at, err := link.AttachXDP(link.XDPOptions{Program: drop, Interface: l.Index, Flags: link.XDPGenericMode})
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	conn := n.podSocket(t)
	defer conn.Close()
	begin := processTime(t)
	sendMany(t, conn, false)
	return float64(processTime(t)-begin) / costQueries
}

// sendMany sends in batches, and reads what has come after each.
func sendMany(t *testing.T, conn *net.UDPConn, read bool) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	b := newBatch(raw)
	packet := packed(t, "svc-4711.ns-11.svc.cluster.local", dns.TypeA, 7)
	for sent := 0; sent < costQueries; sent += batchSize {
		for i := range batchSize {
			b.outIovs[i].Base = &packet[0]
			b.outIovs[i].SetLen(len(packet))
		}
		b.todo = batchSize
		if err := b.flush(); err != nil {
			t.Fatal(err)
		}
		for got := 0; read && got < batchSize; {
			conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			k, err := b.read()
			if err != nil {
				break // lost
			}
			got += k
		}
	}
}

func processTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
