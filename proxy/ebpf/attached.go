package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"nodelet/internal/nl"
	"nodelet/proxy/lb"
)

// udpIdle is UDP_IDLE of bpf/flow.h: after so many seconds of silence a UDP flow begins anew.
const udpIdle = 120

// sinceBoot is the clock of the programs in seconds.
func sinceBoot() (uint32, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &t); err != nil {
		return 0, fmt.Errorf("read the clock of the eBPF programs: %w", err)
	}
	return uint32(t.Sec), nil
}

// attached looks which programs are where.
type attached struct {
	conn   *nl.Conn
	kernel *kernel
	names  map[int]string // of the links
}

// pinned gives the program in a pinned link, 0 when there is none.
func (a *attached) pinned(pin string) (ebpf.ProgramID, error) {
	l, err := link.LoadPinnedLink(filepath.Join(a.kernel.dir, "links", pin), nil)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open pinned BPF link %s: %w", pin, err)
	}
	defer func() { _ = l.Close() }()
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("read pinned BPF link %s: %w", pin, err)
	}
	return info.Program, nil
}

// at names the programs at a hook in the order in which they run, and tells
// whether ours is among them.
func (a *attached) at(q link.QueryOptions, ours ebpf.ProgramID) (names []string, there bool, err error) {
	found, err := link.QueryPrograms(q)
	if err != nil {
		return nil, false, err
	}
	for _, p := range found.Programs {
		if p.ID == ours {
			there = true
			names = append(names, "nodelet's")
			continue
		}
		names = append(names, programOf(p.ID))
	}
	return names, there, nil
}

// programOf names a program of somebody else as bpftool knows it.
func programOf(id ebpf.ProgramID) string {
	name := ""
	if p, err := ebpf.NewProgramFromID(id); err == nil {
		if info, err := p.Info(); err == nil {
			name = info.Name + " "
		}
		_ = p.Close()
	}
	return fmt.Sprintf("%s(program %d, not nodelet's)", name, id)
}

// sockets looks at the hooks of the cgroup.
func (r *reading) sockets(b *Backend, a *attached) error {
	dir, err := b.cgroup()
	if err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open the cgroup that programs are attached to: %w", err)
	}
	defer func() { _ = f.Close() }()
	alone := true
	for _, h := range a.kernel.hooks() {
		ours, err := a.pinned(h.name)
		if err != nil {
			return err
		}
		names, there, err := a.at(link.QueryOptions{Target: int(f.Fd()), Attach: h.at}, ours)
		if err != nil {
			return fmt.Errorf("list programs at %s of cgroup %s: %w", h.name, dir, err)
		}
		where := fmt.Sprintf("program %s at cgroup %s", h.name, dir)
		if !there {
			r.differs(true, lb.Difference{Kind: lb.Missing, Object: where, Effect: "sockets of the node's own processes are not balanced"})
		}
		if !there || len(names) > 1 {
			alone = false
			r.kernel.Holds = append(r.kernel.Holds, where+": "+strings.Join(names, ", then "))
		}
	}
	if alone {
		r.kernel.Holds = append(r.kernel.Holds, fmt.Sprintf("programs at cgroup %s: nodelet's at all %d hooks, nobody else's", dir, len(a.kernel.hooks())))
	}
	return nil
}

// device looks at the two hooks of a link.
func (r *reading) device(a *attached, index int) error {
	clsact, err := a.conn.Programs(index, programName)
	if err != nil {
		if errors.Is(err, nl.ErrNotFound) {
			return nil // the link went meanwhile
		}
		return err
	}
	for _, d := range []direction{ingress, egress} {
		ours, err := a.pinned(fmt.Sprintf("%s-%d", d, index))
		if err != nil {
			return err
		}
		_, at := a.kernel.progFor(d)
		names, there, err := a.at(link.QueryOptions{Target: index, Attach: at}, ours)
		if err != nil && !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, unix.EINVAL) { // before 6.6
			return fmt.Errorf("list programs at %s of link %s: %w", d, a.names[index], err)
		}
		for _, p := range clsact {
			there = there || p.Egress == (d == egress)
		}
		where := fmt.Sprintf("program %s at link %s", d, a.names[index])
		if !there {
			r.differs(true, lb.Difference{Kind: lb.Missing, Object: where, Effect: "packets of Services that pass by this link are not translated"})
		}
		if len(names) > 1 || len(names) == 1 && !there {
			r.kernel.Holds = append(r.kernel.Holds, where+": "+strings.Join(names, ", then "))
		}
	}
	return nil
}
