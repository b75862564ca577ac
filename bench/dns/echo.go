package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"

	"nodelet/bench/area"
	"nodelet/bench/lab"
)

// EchoCommand is how a turn calls this program to have the least that a DNS server in Go can be.
const EchoCommand = "echo"

const (
	echoAddr = "127.0.0.1:1153"
	// echoBatch is how many questions a system call reads at most, as many as nodelet's server does.
	echoBatch = 32
	// Of a message's header (RFC 1035, 4.1.1): its length, and where the bit is that makes an answer of it.
	headerLen, responseByte, responseBit = 12, 2, 0x80
)

// Echo sends every question back as its own answer, and does not end by itself.
func Echo() error {
	addr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(echoAddr))
	conn, err := net.ListenUDP("udp4", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer conn.Close()
	packets := ipv4.NewPacketConn(conn)
	batch, answers := make([]ipv4.Message, echoBatch), make([]ipv4.Message, echoBatch)
	for i := range batch {
		batch[i].Buffers, answers[i].Buffers = [][]byte{make([]byte, dns.MinMsgSize)}, make([][]byte, 1)
	}
	for {
		n, err := packets.ReadBatch(batch, 0)
		if err != nil {
			return fmt.Errorf("read questions: %w", err)
		}
		count := 0
		for _, m := range batch[:n] {
			if m.N < headerLen {
				continue
			}
			m.Buffers[0][responseByte] |= responseBit
			answers[count].Buffers[0], answers[count].Addr = m.Buffers[0][:m.N], m.Addr
			count++
		}
		for sent := 0; sent < count; {
			n, err := packets.WriteBatch(answers[sent:count], 0)
			if err != nil {
				return fmt.Errorf("answer: %w", err)
			}
			sent += n
		}
	}
}

// floor measures an echo in place of a server: what the kernel, Go and the clients take for questions that
// nobody reads.
func floor(n *area.Node, o options) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	p, err := lab.Run(n.Dir, self, EchoCommand)
	if err != nil {
		return err
	}
	defer p.Stop()
	if err := awaitEcho(p); err != nil {
		return err
	}
	r := &measured{}
	if err := r.load(n.Dir, o, start{addr: echoAddr}, p); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	for figure, v := range map[string]float64{perCPU: r.perCPUSecond, perSecond: r.perSecond, beside50: r.p50, beside99: r.p99} {
		n.Add(figure, echo, v)
	}
	return nil
}

func awaitEcho(p *lab.Process) error {
	err := errors.New("nobody was asked")
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err = ask("udp", echoAddr, "echo.", dns.TypeA); err == nil {
			return nil
		}
	}
	return fmt.Errorf("ask the echo: %w\n%s", err, p.Log())
}
