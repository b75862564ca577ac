package ebpf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// drainSuffix ends the names of programs that take no new connections: by it a
// daemon without memory knows that they are on their way out.
const drainSuffix = "_drain"

// drain makes the programs of a spec such ones.
func drain(spec *ebpf.CollectionSpec) error {
	if err := spec.Variables["draining"].Set(true); err != nil {
		return fmt.Errorf("set draining of the eBPF programs: %w", err)
	}
	for _, p := range spec.Programs {
		p.Name += drainSuffix
	}
	return nil
}

// Drain leaves what begins to another back end; what is tracked goes on, with
// its endpoints as want says. It gives the number of connections and UDP flows
// that still need the programs, and of the node's own connected UDP sockets,
// which need to be ended when their endpoint leaves. TCP sockets that got their
// endpoint when they connected need none. After it Apply keeps the maps in
// step, as before.
func (b *Backend) Drain(ctx context.Context, want *lb.State) (left int, err error) {
	if !b.cfg.draining {
		if err := b.Close(); err != nil {
			return 0, err
		}
		b.cfg.draining = true
	}
	if _, err := b.Apply(ctx, want); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if left, err = b.kernel.live(); err != nil {
		return 0, err
	}
	return left, b.inside(func() error {
		sockets, err := b.kernel.endSockets()
		left += sockets
		return err
	})
}

// Draining tells whether the programs in place take no new connections, and
// since when.
func (b *Backend) Draining() (since time.Time, is bool, err error) {
	pin := filepath.Join(pinsOf(b.cfg.BPFFS, b.cookie), layout, "links", "connect4")
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return since, false, nil
	}
	if err != nil {
		return since, false, fmt.Errorf("open pinned BPF link %s: %w", pin, err)
	}
	defer func() { _ = l.Close() }()
	info, err := l.Info()
	if err != nil {
		return since, false, fmt.Errorf("read pinned BPF link %s: %w", pin, err)
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return since, false, fmt.Errorf("open the program of BPF link %s: %w", pin, err)
	}
	defer func() { _ = p.Close() }()
	about, err := p.Info()
	if err != nil {
		return since, false, fmt.Errorf("read the program of BPF link %s: %w", pin, err)
	}
	loaded, _ := about.LoadTime()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return since, false, fmt.Errorf("read the clock of the kernel: %w", err)
	}
	return time.Now().Add(loaded - time.Duration(now.Nano())), strings.HasSuffix(about.Name, drainSuffix), nil
}

// Seconds of silence after which a tracked connection needs nobody any more:
// TCP as SNAT_IDLE of bpf/flow.h says, UDP as UDP_IDLE, and TCP that one side
// has closed.
const (
	tcpIdle     = 7200
	closingIdle = 60
)

// live counts the connections that need the programs.
func (k *kernel) live() (n int, err error) {
	now, err := sinceBoot()
	if err != nil {
		return 0, err
	}
	flows, err := readMap[proxyTuple, proxyFlow](k.maps.Flows)
	if err != nil {
		return 0, err
	}
	for t, f := range flows {
		if t.AtEgress != 0 || f.Flags&uint16(proxyFlowFlagsFLOW_REPLY) != 0 {
			continue
		}
		idle := uint32(udpIdle)
		if t.Proto == uint8(model.TCP) {
			if idle = tcpIdle; f.Flags&uint16(proxyFlowFlagsFLOW_CLOSING) != 0 {
				idle = closingIdle
			}
		}
		if now-f.Seen < idle {
			n++
		}
	}
	datagrams, err := readMap[proxyDatagramKey, proxyDatagram](k.maps.Datagrams)
	if err != nil {
		return 0, err
	}
	for d, v := range datagrams {
		if d.Reply == 0 && now-v.Seen < udpIdle {
			n++
		}
	}
	return n, nil
}
