package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"nodelet/internal/nl"
	"nodelet/proxy/lb"
)

// The short way of packets of tracked flows between two devices: bpf/forward.c.

// XDPAuto in Config.XDP stands for all hardware links and bonds that have an
// address of the node.
const XDPAuto = "auto"

// CheckXDP tells whether Config.XDP makes sense.
func CheckXDP(devices []string) error {
	for _, d := range devices {
		switch {
		case d == XDPAuto && len(devices) > 1:
			return fmt.Errorf("%q stands alone, without names of links", d)
		case d == "" || len(d) >= unix.IFNAMSIZ || strings.ContainsAny(d, "/ \t\n"):
			return fmt.Errorf("%q: must be the name of a link, as ip link shows it, or %s", d, XDPAuto)
		}
	}
	return nil
}

// forwarder is the program and what it knows. Its maps are pinned nowhere: the
// program in the links keeps them, and a new daemon's program has its own.
type forwarder struct {
	prog             *ebpf.Program
	exits, forwarded *ebpf.Map
	// told are the devices as the log was last told of them.
	told map[string]lb.Shortcut
}

// openForwarder loads the program over the maps of the others. Without it all
// packets take the long way.
func openForwarder(m *proxyMaps) (*forwarder, error) {
	spec, err := loadForward()
	if err != nil {
		return nil, fmt.Errorf("read the compiled eBPF programs: %w", err)
	}
	all, err := loadOver(spec, map[string]*ebpf.Map{
		"clients": m.Clients, "counters": m.Counters, "datagrams": m.Datagrams, "devices": m.Devices, "drops": m.Drops, "flows": m.Flows,
		"fragments": m.Fragments, "frontends": m.Frontends, "locals": m.Locals, "marks": m.Marks, "members": m.Members, "names": m.Names, "peers": m.Peers, "ports": m.Ports,
		"ranges": m.Ranges, "slots": m.Slots,
	})
	if err != nil {
		return nil, fmt.Errorf("load the eBPF program for XDP: %w", err)
	}
	defer all.Close()
	return &forwarder{
		prog: all.DetachProgram("forward"), exits: all.DetachMap("exits"), forwarded: all.DetachMap("forwarded"), told: map[string]lb.Shortcut{},
	}, nil
}

func (f *forwarder) close() error {
	if f == nil {
		return nil
	}
	return errors.Join(f.prog.Close(), f.exits.Close(), f.forwarded.Close())
}

// shortcutLinks gives the links that the program has to be on, and which of those
// that were named are not there.
func shortcutLinks(devices []string, links []nl.Link, addrs []nl.Addr) (on []nl.Link, missing []string) {
	if slices.Equal(devices, []string{XDPAuto}) {
		for _, l := range links {
			hardware := l.Kind == "device" || l.Kind == "bond"
			if hardware && l.Up && !l.Loopback && len(l.MAC) > 0 && slices.ContainsFunc(addrs, func(a nl.Addr) bool { return a.Link == l.Index && a.Global }) {
				on = append(on, l)
			}
		}
		return on, nil
	}
	for _, d := range devices {
		at := slices.IndexFunc(links, func(l nl.Link) bool { return l.Name == d })
		if at < 0 {
			missing = append(missing, d)
			continue
		}
		on = append(on, links[at])
	}
	return on, missing
}

const xdp direction = "xdp"

// atXDP tells XDP links at a device from others.
func atXDP(index int) func(*link.Info) bool {
	return func(i *link.Info) bool { return i.XDP() != nil && i.XDP().Ifindex == uint32(index) }
}

// attachForwarder puts the program on a device, in the place of ours that is
// there. Only where the driver itself runs it: after the kernel has made its
// own of a packet, nothing would be gained.
func (k *kernel) attachForwarder(index int) (changes int, err error) {
	pin := k.devicePin(index, xdp)
	if err := k.inherit(pin); err != nil {
		return 0, err
	}
	replaced, err := replaceIn(pin, k.forward.prog, atXDP(index))
	if replaced || err != nil {
		return 0, err
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: k.forward.prog, Interface: index, Flags: link.XDPDriverMode})
	switch {
	case errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST):
		return 0, fmt.Errorf("another XDP program is there: %w", err)
	case errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EOPNOTSUPP):
		return 0, fmt.Errorf("its driver has no XDP: %w", err)
	case err != nil:
		return 0, fmt.Errorf("its driver refuses XDP (the MTU may be above what it can, commonly 3498, or it has too few queues): %w", err)
	}
	return 1, pinAndClose(l, pin)
}

// exitOf asks what can be sent out by a link that the program is on.
func exitOf(l *nl.Link) (forwardExit, error) {
	e := forwardExit{}
	for i := 0; i+1 < len(l.MAC) && i/2 < len(e.Mac); i += 2 {
		e.Mac[i/2] = binary.NativeEndian.Uint16(l.MAC[i:])
	}
	if l.Kind != "veth" { // there, what XDP_TX sends waits until somebody else wakes the other end
		e.Flags |= uint16(forwardExitFlagsEXIT_RETURNS)
	}
	sends, err := nl.XDPSends(l.Index)
	if sends {
		e.Flags |= uint16(forwardExitFlagsEXIT_SENDS)
	}
	if errors.Is(err, errors.ErrUnsupported) { // nobody knows, so nothing is sent
		err = nil
	}
	return e, err
}

// syncShortcuts brings the program's places in step with the node's links. What
// cannot be is told and no error: the other programs do the work.
func (b *Backend) syncShortcuts(links []nl.Link, addrs []nl.Addr) (changes int, err error) {
	k := b.kernel
	pinned, err := k.pinned(xdp)
	if err != nil {
		return 0, err
	}
	var on []nl.Link
	found := map[string]lb.Shortcut{}
	exits := map[uint32]forwardExit{}
	if k.forward != nil {
		var missing []string
		on, missing = shortcutLinks(b.cfg.XDP, links, addrs)
		for _, name := range missing {
			found[name] = lb.Shortcut{Link: name, Why: "there is no such link"}
		}
	}
	for _, l := range on {
		s := lb.Shortcut{Link: l.Name}
		n, err := k.attachForwarder(l.Index)
		changes += n
		if err == nil {
			exits[uint32(l.Index)], err = exitOf(&l)
		}
		if err != nil {
			s.Why = err.Error()
		} else {
			s.On, s.Why = true, sendsWhat(exits[uint32(l.Index)])
		}
		found[l.Name] = s
	}
	if k.forward != nil {
		if _, err := syncMap(k.forward.exits, exits); err != nil { // no change of the node: it begins with each daemon
			return changes, err
		}
		b.tellShortcuts(found)
	}
	for index := range pinned {
		if !slices.ContainsFunc(on, func(l nl.Link) bool { return l.Index == index }) {
			changes++
			err = errors.Join(err, os.Remove(k.devicePin(index, xdp)))
		}
	}
	return changes, err
}

// sendsWhat says what a device that the program is on cannot do; empty for all.
func sendsWhat(e forwardExit) string {
	switch flags := forwardExitFlags(e.Flags); {
	case flags&forwardExitFlagsEXIT_SENDS != 0:
		return ""
	case flags&forwardExitFlagsEXIT_RETURNS != 0:
		return "its driver, or a kernel before 6.3, takes no packets from other links: only what leaves by the link it came in by is forwarded"
	}
	return "nothing is sent out by it: the other end of this veth pair cannot receive (it needs GRO or an XDP program, and Linux 6.3)"
}

// tellShortcuts logs what has changed.
func (b *Backend) tellShortcuts(found map[string]lb.Shortcut) {
	for name, s := range found {
		if b.kernel.forward.told[name] == s {
			continue
		}
		if s.On {
			b.cfg.Log.Info("packets of known connections are forwarded by XDP", "link", name, "limits", s.Why)
		} else {
			b.cfg.Log.Warn("no XDP on a link: its packets take the kernel's own way", "link", name, "because", s.Why)
		}
	}
	b.kernel.forward.told = found
}

// Shortcuts lists the links where packets of known connections are, or should
// be, forwarded by XDP, in order of their names, and how many packets were
// since this daemon loaded its programs.
func (b *Backend) Shortcuts() (all []lb.Shortcut, packets uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kernel == nil || b.kernel.forward == nil {
		return nil, 0, nil
	}
	f := b.kernel.forward
	for _, name := range slices.Sorted(maps.Keys(f.told)) {
		all = append(all, f.told[name])
	}
	var counts []uint64
	if err := f.forwarded.Lookup(uint32(0), &counts); err != nil {
		return all, 0, fmt.Errorf("count packets that were forwarded by XDP: %w", err)
	}
	for _, n := range counts {
		packets += n
	}
	return all, packets, nil
}

// shortcutsInPlace tells whether the program is where it was put and what it
// knows of its links is right. Where it could not be put, it is tried again.
func (b *Backend) shortcutsInPlace(links []nl.Link, addrs []nl.Addr) bool {
	f := b.kernel.forward
	if f == nil {
		return true
	}
	on, missing := shortcutLinks(b.cfg.XDP, links, addrs)
	if len(on)+len(missing) != len(f.told) {
		return false
	}
	have, err := readMap[uint32, forwardExit](f.exits)
	if err != nil {
		return false
	}
	again := false
	for _, l := range on {
		if !f.told[l.Name].On {
			again = true
			continue
		}
		want, err := exitOf(&l)
		if err != nil || have[uint32(l.Index)] != want || !isIn(b.kernel.devicePin(l.Index, xdp), f.prog, atXDP(l.Index)) {
			return false
		}
	}
	if again {
		_, err = b.syncShortcuts(links, addrs)
	}
	return err == nil
}

// shortcuts looks whether the program is at the links that it should be on.
func (r *reading) shortcuts(b *Backend, a *attached, links []nl.Link, addrs []nl.Addr) error {
	on, missing := shortcutLinks(b.cfg.XDP, links, addrs)
	const long = "packets of known connections take the kernel's own way"
	for _, name := range missing {
		r.kernel.Holds = append(r.kernel.Holds, fmt.Sprintf("no program xdp at link %s, there is no such link: %s", name, long))
	}
	for _, l := range on {
		pin := a.kernel.devicePin(l.Index, xdp)
		ours, err := a.pinned(filepath.Base(pin))
		if err != nil {
			return err
		}
		what := fmt.Sprintf("no program xdp at link %s: %s", l.Name, long)
		if ours != 0 {
			what = fmt.Sprintf("program xdp at link %s: nodelet's (program %d), forwards packets of known connections that leave by a link with XDP", l.Name, ours)
		}
		r.kernel.Holds = append(r.kernel.Holds, what)
	}
	return nil
}
