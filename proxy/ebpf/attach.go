package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// hook is one place at the root of the cgroups.
type hook struct {
	name string
	prog *ebpf.Program
	at   ebpf.AttachType
}

func (k *kernel) hooks() []hook {
	p := &k.progs
	return []hook{
		{"connect4", p.Connect4, ebpf.AttachCGroupInet4Connect},
		{"connect6", p.Connect6, ebpf.AttachCGroupInet6Connect},
		{"recvmsg4", p.Recvmsg4, ebpf.AttachCGroupUDP4Recvmsg},
		{"recvmsg6", p.Recvmsg6, ebpf.AttachCGroupUDP6Recvmsg},
		{"sendmsg4", p.Sendmsg4, ebpf.AttachCGroupUDP4Sendmsg},
		{"sendmsg6", p.Sendmsg6, ebpf.AttachCGroupUDP6Sendmsg},
		{"getpeername4", p.Getpeername4, ebpf.AttachCgroupInet4GetPeername},
		{"getpeername6", p.Getpeername6, ebpf.AttachCgroupInet6GetPeername},
	}
}

// cgroupRoot finds where the cgroup2 tree is mounted: alone, or beside v1 (hybrid).
func cgroupRoot() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("find a cgroup2 tree at /sys/fs/cgroup or /sys/fs/cgroup/unified: mount one " +
		"(mount -t cgroup2 none /sys/fs/cgroup/unified)")
}

// cgroup is the directory whose sockets are balanced.
func (b *Backend) cgroup() (string, error) {
	if b.cfg.Cgroup != "" {
		return b.cfg.Cgroup, nil
	}
	return cgroupRoot()
}

// checkCgroup tells whether sockets can be balanced in a directory.
func checkCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("find the cgroup whose sockets are balanced, %s (--proxy-cgroup): %w", dir, err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("balance the sockets of cgroup %s (--proxy-cgroup): it is not in a cgroup2 tree", dir)
	}
	return nil
}

// attachCgroup puts the programs into the hooks of a cgroup, in the place of
// the ones that are there. It gives the number of changes besides such replacements.
func (k *kernel) attachCgroup(dir string) (changes int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, fmt.Errorf("find the cgroup to attach to: %w", err)
	}
	for _, h := range k.hooks() {
		pin := filepath.Join(k.dir, "links", h.name)
		if err := k.inherit(pin); err != nil {
			return changes, err
		}
		replaced, err := replaceIn(pin, h.prog, atCgroup(st.Ino))
		if err != nil {
			return changes, err
		}
		if replaced {
			continue
		}
		l, err := link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: h.at, Program: h.prog})
		if err != nil {
			return changes, fmt.Errorf("attach %s to cgroup %s: %w", h.name, dir, err)
		}
		changes++
		if err := pinAndClose(l, pin); err != nil {
			return changes, err
		}
	}
	return changes, nil
}

// atCgroup tells links at a cgroup, by its inode, from others.
func atCgroup(inode uint64) func(*link.Info) bool {
	return func(i *link.Info) bool { return i.Cgroup() != nil && i.Cgroup().CgroupId == inode }
}

// atDevice tells tcx links at a device from others.
func atDevice(index int) func(*link.Info) bool {
	return func(i *link.Info) bool { return i.TCX() != nil && i.TCX().Ifindex == uint32(index) }
}

// replaceIn puts a program into a pinned link. It is false when there is none
// that is still attached where it should be; what was there is removed then.
func replaceIn(pin string, prog *ebpf.Program, fits func(*link.Info) bool) (bool, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		defer func() { _ = l.Close() }()
		if info, infoErr := l.Info(); infoErr == nil && fits(info) && l.Update(prog) == nil {
			return true, nil
		}
	}
	if err := os.Remove(pin); err != nil {
		return false, fmt.Errorf("remove a link that is attached to nothing: %w", err)
	}
	return false, nil
}

func pinAndClose(l link.Link, pin string) error {
	err := l.Pin(pin)
	if err != nil {
		err = fmt.Errorf("pin link: %w", err)
	}
	return errors.Join(err, l.Close())
}

// direction is one of the two hooks of a device.
type direction string

const (
	ingress direction = "ingress"
	egress  direction = "egress"
)

func (k *kernel) progFor(d direction) (*ebpf.Program, ebpf.AttachType) {
	if d == ingress {
		return k.progs.Ingress, ebpf.AttachTCXIngress
	}
	return k.progs.Egress, ebpf.AttachTCXEgress
}

func (k *kernel) devicePin(index int, d direction) string {
	return filepath.Join(k.dir, "links", fmt.Sprintf("%s-%d", d, index))
}

// attachDevice puts the programs on a device, in the place of the ones that
// are there. The calling thread must be in the network namespace.
func (k *kernel) attachDevice(index int) (changes int, err error) {
	if k.clsact {
		return k.attachClsact(index)
	}
	for _, d := range []direction{egress, ingress} { // answers first
		pin := k.devicePin(index, d)
		if err := k.inherit(pin); err != nil {
			return changes, err
		}
		prog, at := k.progFor(d)
		replaced, err := replaceIn(pin, prog, atDevice(index))
		if err != nil {
			return changes, err
		}
		if replaced {
			continue
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: at})
		if errors.Is(err, ebpf.ErrNotSupported) { // before 6.6
			k.clsact = true
			return k.attachClsact(index)
		}
		if err != nil {
			return changes, fmt.Errorf("attach %s to link #%d: %w", d, index, err)
		}
		changes++
		if err := pinAndClose(l, pin); err != nil {
			return changes, err
		}
	}
	return changes, nil
}

// pinned lists the links that programs are pinned to in one of some directions.
func (k *kernel) pinned(in ...direction) (map[int]bool, error) {
	entries, err := os.ReadDir(filepath.Join(k.dir, "links"))
	if err != nil {
		return nil, fmt.Errorf("list pinned links: %w", err)
	}
	out := map[int]bool{}
	for _, e := range entries {
		if dir, number, ok := strings.Cut(e.Name(), "-"); ok && slices.Contains(in, direction(dir)) {
			if n, err := strconv.Atoi(number); err == nil {
				out[n] = true
			}
		}
	}
	return out, nil
}

func (k *kernel) forgetDevice(index int) error {
	var errs []error
	for _, d := range []direction{ingress, egress} {
		if err := os.Remove(k.devicePin(index, d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
