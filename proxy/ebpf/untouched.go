package ebpf

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"nodelet/internal/nl"
	"nodelet/proxy/lb"
)

// Untouched tells whether the maps hold what was written and the programs are
// where they were put. Nobody notifies of changes, so all of it is read; the
// maps a chunk at a time, so that it takes no memory: 0.3 µs an element.
func (b *Backend) Untouched(context.Context) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.have == nil || b.kernel == nil || b.squeezed || b.devicesErr != nil {
		return false
	}
	if !b.kernel.holds(b.have, b.applied) || !b.inPlace() {
		return false
	}
	// A socket that connected while its endpoint left may be one too late.
	return b.forgetEndpoints(b.have) == nil
}

// holds tells whether the maps hold a content, which stands for a State.
func (k *kernel) holds(c *content, s *lb.State) bool {
	byID := make([]*pool, c.next)
	for _, p := range c.pools {
		byID[p.id] = p
	}
	of := func(id uint32) *pool {
		if int64(id) >= int64(len(byID)) {
			return nil
		}
		return byID[id]
	}
	slots, err1 := scan(k.maps.Slots, func(key *proxySlotKey, e *proxyEndpoint) bool {
		p, list := of(key.Port), key.Slot/localSlots
		at := int64(key.Slot % localSlots)
		return p != nil && at < int64(len(p.lists[list])) && encodeEndpoint(p.lists[list][at]) == *e
	})
	ports, err2 := scan(k.maps.Ports, func(id *uint32, v *proxyPort) bool {
		p := of(*id)
		return p != nil && p.value == *v
	})
	members, err3 := scan(k.maps.Members, func(key *proxyMemberKey, flags *uint32) bool {
		p := of(key.Port)
		if p == nil {
			return false
		}
		want, is := p.members[netip.AddrPortFrom(decodeAddr(key.Addr), swapped(key.Number))]
		return is && want == *flags
	})
	frontends, err4 := scan(k.maps.Frontends, func(key *proxyFrontendKey, v *proxyFrontend) bool {
		f := decodeFrontend(*key)
		t, ok := s.Lookup(f)
		return ok && renderFrontend(c.cfg, f, t, c.number(t)) == *v
	})
	found, err5 := readMap[proxyRangeKey, uint32](k.maps.Ranges)
	return errors.Join(err1, err2, err3, err4, err5) == nil && maps.Equal(found, c.ranges()) &&
		sizes{len(found), members, slots, ports, frontends} == c.size
}

// ranges are the elements of map ranges.
func (c *content) ranges() map[proxyRangeKey]uint32 {
	out := map[proxyRangeKey]uint32{}
	for _, k := range rangesOf(c.cfg) {
		out[k] = 1
	}
	for _, p := range c.pools {
		for _, s := range p.sources {
			out[encodeRange(p.id, s)] = 1
		}
	}
	return out
}

// inPlace tells whether the programs are at the cgroup and at the node's
// devices, and what they know of those is right.
func (b *Backend) inPlace() bool {
	dir, err := b.cgroup()
	if err != nil {
		return false
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return false
	}
	k := b.kernel
	for _, h := range k.hooks() {
		if !isIn(filepath.Join(k.dir, "links", h.name), h.prog, atCgroup(st.Ino)) {
			return false
		}
	}
	there := false
	err = b.inside(func() error {
		c, err := nl.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		links, addrs, err := linksOf(c)
		if err != nil {
			return err
		}
		p := placeOf(b.applied.Config(), b.applied, links, addrs)
		there = k.knows(p) && k.markedAll(b.applied, p.locals) && b.shortcutsInPlace(links, addrs) && !slices.ContainsFunc(slices.Collect(maps.Keys(p.devices)), func(index uint32) bool {
			return !k.isOn(c, int(index))
		})
		return nil
	})
	return err == nil && there
}

// knows tells whether the maps of the node's links and addresses say what is.
func (k *kernel) knows(p place) bool {
	locals, err1 := readMap[proxyAddr, proxyLocal](k.maps.Locals)
	devices, err2 := readMap[uint32, proxyDevice](k.maps.Devices)
	return err1 == nil && err2 == nil && maps.Equal(locals, p.locals) && maps.Equal(devices, p.devices)
}

// isOn tells whether both programs are on a link.
func (k *kernel) isOn(c *nl.Conn, index int) bool {
	if k.clsact {
		all, err := c.Programs(index, programName)
		return err == nil && len(all) == 2
	}
	for _, d := range []direction{ingress, egress} {
		prog, _ := k.progFor(d)
		if !isIn(k.devicePin(index, d), prog, atDevice(index)) {
			return false
		}
	}
	return true
}

// isIn tells whether a program is in a pinned link that is where it should be.
func isIn(pin string, prog *ebpf.Program, fits func(*link.Info) bool) bool {
	if _, err := os.Lstat(pin); err != nil {
		return false
	}
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return false
	}
	defer func() { _ = l.Close() }()
	info, err1 := l.Info()
	about, err2 := prog.Info()
	if err1 != nil || err2 != nil {
		return false
	}
	id, ok := about.ID()
	return ok && fits(info) && info.Program == id
}
