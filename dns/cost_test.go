package dns

import (
	"bytes"
	"fmt"
	"net"
	"os"
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
	"nodelet/internal/netns/nstest"
)

// TestKernelXDPCost prints what an answer costs by XDP and by a socket, over a
// veth: DNS_TEST_COST=1 go test ./dns -run XDPCost -v. Client and server are one
// process and the kernel works in its name, so its processor time is all there
// is, whatever else the machine does. What is the client's and the device's own
// in it is found by a program that sends each question straight back unread. It
// fails when an answer of the kernel has not the bytes that the zone gives.
func TestKernelXDPCost(t *testing.T) {
	if os.Getenv("DNS_TEST_COST") == "" {
		t.Skip("measures: DNS_TEST_COST=1")
	}
	if !nstest.Again(t) {
		return
	}
	n := newNode(t)
	unread, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: turnRound()})
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	w := zonetest.Big(10_000)
	c := kernelConfig()
	c.Limits.ClientQPS = 0
	costs := map[string][]float64{}
	for range 9 { // in turns, so that all meet the same noise
		costs["unread"] = append(costs["unread"], n.costUnread(t, unread))
		for name, xdp := range map[string]bool{"sockets": false, "XDP": true} {
			c.XDP = xdp
			s := startOn(t, c, w.Store, w.Writers)
			eventually(t, "the addresses", func() bool { return s.Ready() == nil })
			s.settle()
			costs[name] = append(costs[name], n.cost(t, s))
			s.stop()
		}
	}
	median := func(name string) float64 {
		all := costs[name]
		slices.Sort(all)
		fmt.Printf("%s: %.0f ns a question in all (%.0f to %.0f)\n", name, all[len(all)/2], all[0], all[len(all)-1])
		return all[len(all)/2]
	}
	base := median("unread")
	for _, name := range []string{"sockets", "XDP"} {
		fmt.Printf("%s: %.0f ns of it the server's\n", name, median(name)-base)
	}
}

const costQueries = 32 * 1000

// cost gives the processor time of one query in ns.
func (n *node) cost(t *testing.T, s *server) float64 {
	conn := n.podSocket(t)
	defer conn.Close()
	inKernel, answered := s.Stats().Kernel, replies(s)
	for id := range uint16(20) {
		packet := costQuestion(t, id)
		if got, want := exchange(t, conn, packet), zoneReplies(s.Zone(), packet); !bytes.Equal(got, want[0]) {
			t.Fatalf("the answer is\n%x, the zone's is\n%x", got, want[0])
		}
	}
	begin := processTime(t)
	sendMany(t, conn)
	took := processTime(t) - begin
	if now := replies(s) - answered; now < costQueries*9/10 {
		t.Errorf("%d of %d queries were answered", now, costQueries)
	}
	if now := s.Stats().Kernel - inKernel; s.c.XDP && now < costQueries*9/10 {
		t.Errorf("%d of %d queries were answered by the kernel", now, costQueries)
	}
	return float64(took) / costQueries
}

// costUnread is the same with nobody there but a program that reads nothing.
func (n *node) costUnread(t *testing.T, unread *ebpf.Program) float64 {
	l, err := n.conn.Link("veth0")
	if err != nil {
		t.Fatal(err)
	}
	at, err := link.AttachXDP(link.XDPOptions{Program: unread, Interface: l.Index, Flags: link.XDPGenericMode})
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	conn := n.podSocket(t)
	defer conn.Close()
	if got, want := exchange(t, conn, costQuestion(t, 7)), costQuestion(t, 7); !bytes.Equal(got[4:], want[4:]) {
		t.Fatalf("%x comes back as %x", want, got)
	}
	begin := processTime(t)
	sendMany(t, conn)
	return float64(processTime(t)-begin) / costQueries
}

// turnRound are the instructions that send every packet to port 53 back where it
// came from, marked as a reply. Its sums stay right: what is exchanged counts
// alike in both places, and a packet that never left the machine has none of its data.
func turnRound() asm.Instructions {
	const packet, a, b = asm.R2, asm.R4, asm.R5
	swap := func(one, other int16, size asm.Size) asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(a, packet, one, size), asm.LoadMem(b, packet, other, size),
			asm.StoreMem(packet, one, b, size), asm.StoreMem(packet, other, a, size),
		}
	}
	const mac, ip, port, flags, end = 0, 26, 34, 44, 46
	return slices.Concat(
		asm.Instructions{
			asm.LoadMem(packet, asm.R1, 0, asm.Word), asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data, data_end
			asm.Mov.Reg(a, packet), asm.Add.Imm(a, end), asm.JGT.Reg(a, asm.R3, "pass"),
			asm.LoadMem(a, packet, 12, asm.Half), asm.JNE.Imm(a, 0x0008, "pass"), // IPv4
			asm.LoadMem(a, packet, port+2, asm.Half), asm.JNE.Imm(a, 53<<8, "pass"),
		},
		swap(mac, mac+6, asm.Word), swap(mac+4, mac+10, asm.Half), swap(ip, ip+4, asm.Word), swap(port, port+2, asm.Half),
		asm.Instructions{
			asm.LoadMem(a, packet, flags, asm.Byte), asm.Or.Imm(a, 0x80), asm.StoreMem(packet, flags, a, asm.Byte),
			asm.Mov.Imm(asm.R0, 3), asm.Return(), // XDP_TX
			asm.Mov.Imm(asm.R0, 2).WithSymbol("pass"), asm.Return(),
		},
	)
}

func costQuestion(t *testing.T, id uint16) []byte {
	return packed(t, "svc-4711.ns-11.svc.cluster.local", dns.TypeA, id)
}

// sendMany sends in batches, and reads what has come after each.
func sendMany(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	b := newBatch(raw)
	packet := costQuestion(t, 7)
	for sent := 0; sent < costQueries; sent += batchSize {
		for i := range batchSize {
			b.outIovs[i].Base = &packet[0]
			b.outIovs[i].SetLen(len(packet))
		}
		b.todo = batchSize
		if err := b.flush(); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < batchSize; {
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
