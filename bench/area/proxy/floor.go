package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"nodelet/bench/area"
)

// Verdicts of programs that let everything pass (linux/bpf.h).
const (
	allow   = 1  // at connect()
	tcxNext = -1 // at a device
)

// hooksAlone is what connect() takes more with programs that do nothing where mode ebpf has its own: the
// kernel's price, below which no program can be. Before Linux 6.6 it is not known.
func (m *turn) hooksAlone() error {
	if m.Who != nodeletBPF {
		return nil
	}
	e := &empty{}
	defer e.detach()
	if err := e.attach(area.CgroupRoot()); errors.Is(err, ebpf.ErrNotSupported) {
		return nil
	} else if err != nil {
		return err
	}
	to := netip.AddrPortFrom(unrelated, servePort)
	other, err := m.added(to, to)
	m.node.Add(m.name(emptyHooks), m.Who, other.added...)
	return err
}

// empty are programs that do nothing, in their places.
type empty struct{ open []io.Closer }

// detach ends them; the kernel would with this process.
func (e *empty) detach() {
	for _, o := range e.open {
		_ = o.Close()
	}
}

// attach puts them at connect() of a cgroup and at all devices of the node.
func (e *empty) attach(cgroup string) error {
	atConnect, err := e.load(ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Connect, allow)
	if err != nil {
		return err
	}
	atDevice, err := e.load(ebpf.SchedCLS, ebpf.AttachNone, tcxNext)
	if err != nil {
		return err
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: ebpf.AttachCGroupInet4Connect, Program: atConnect})
	if err != nil {
		return fmt.Errorf("attach an empty program to cgroup %s: %w", cgroup, err)
	}
	e.open = append(e.open, l)
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, i := range links {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: atDevice, Attach: at})
			if err != nil {
				return fmt.Errorf("attach an empty program to link %s: %w", i.Name, err)
			}
			e.open = append(e.open, l)
		}
	}
	return nil
}

func (e *empty) load(t ebpf.ProgramType, at ebpf.AttachType, verdict int32) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: t, AttachType: at, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("load an empty program: %w", err)
	}
	e.open = append(e.open, p)
	return p, nil
}

// A map like the one in which mode ebpf keeps who answers for a Service, and how often one of its elements
// is written.
const (
	elementKey, elementValue = 8, 20 // bytes: struct slot_key and struct endpoint of proxy/ebpf/bpf
	updates                  = 1000
)

// updateAlone is how long the kernel takes to write one element of a map that has as many as the Services'
// endpoints: what remains of a change of endpoints when nothing has to be read, decided or woken.
func (m *turn) updateAlone() error {
	if m.Who != nodeletBPF {
		return nil
	}
	elements := m.Size * m.world.endpoints
	slots, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.Hash, KeySize: elementKey, ValueSize: elementValue, MaxEntries: uint32(elements),
	})
	if err != nil {
		return fmt.Errorf("make a map: %w", err)
	}
	defer slots.Close()
	var key [elementKey]byte
	var value [elementValue]byte
	write := func(i int) error {
		binary.NativeEndian.PutUint32(key[:], uint32(i))
		return slots.Put(key[:], value[:])
	}
	for i := range elements {
		if err := write(i); err != nil {
			return fmt.Errorf("fill a map: %w", err)
		}
	}
	took := make([]float64, updates)
	for i := range took {
		begin := time.Now()
		if err := write(i * 7919 % elements); err != nil {
			return fmt.Errorf("write an element of a map: %w", err)
		}
		took[i] = float64(time.Since(begin).Nanoseconds()) / 1e6
	}
	m.node.Add(m.name(follow50), oneUpdate, took...)
	return nil
}
