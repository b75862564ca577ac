package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"nodelet/internal/bpffs"
)

// layout is the version of what bpf/abi.h says. A daemon with another one
// makes new maps beside the old ones, which it removes when its programs have
// taken over (takeover.go); flows that only the old maps know end then.
const layout = "v1"

// kernel is what is open of the kernel: the maps, pinned, and the programs.
type kernel struct {
	dir   string // of the pins: root/nodelet/netns-<cookie>/layout
	maps  proxyMaps
	progs proxyPrograms
	// clsact: the kernel has no tcx.
	clsact bool
	// ended ends sockets; nil where the kernel cannot, and before it is needed (canEnd).
	ended      *ebpf.Program
	endedTried bool
	// forward is the program for XDP; nil when nobody asked for it.
	forward *forwarder
	// fresh: there were no maps, so nothing is tracked that may have to end.
	fresh bool
	// marked are the marks that are known to be set.
	marked markSet
}

// pinsOf is the directory of everything of one network namespace's. A cookie
// is never given twice until the machine boots, and then the pins are gone.
func pinsOf(root string, cookie uint64) string {
	return filepath.Join(root, "nodelet", fmt.Sprintf("netns-%d", cookie))
}

// openKernel loads the programs and takes over the pinned maps, or makes them.
func openKernel(cfg *Config, cookie uint64) (*kernel, error) {
	if err := bpffs.Ensure(cfg.BPFFS); err != nil {
		return nil, err
	}
	spec, err := specFor(cookie, cfg.MapSizes)
	if err != nil {
		return nil, err
	}
	if cfg.draining {
		if err := drain(spec); err != nil {
			return nil, err
		}
	}
	for _, m := range spec.Maps {
		if m.Name[0] != '.' { // constants belong to the programs
			m.Pinning = ebpf.PinByName
		}
	}
	k := &kernel{dir: filepath.Join(pinsOf(cfg.BPFFS, cookie), layout)}
	if err := setAside(k.dir, spec, cfg.Log); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(k.dir, "links"), 0o700); err != nil {
		return nil, fmt.Errorf("make directory for BPF pins: %w", err)
	}
	if k.fresh, err = k.isFresh(); err != nil {
		return nil, err
	}
	if err := k.share(); err != nil {
		return nil, err
	}
	if err := k.open(spec); err != nil {
		return nil, fmt.Errorf("load eBPF programs: %w", err)
	}
	k.marked = newMarks(k.maps.Marks)
	if err := k.setMarksComplete(false); err != nil { // the daemon before this one may have known of none
		return nil, errors.Join(err, k.close())
	}
	if len(cfg.XDP) > 0 && !cfg.draining {
		if k.forward, err = openForwarder(&k.maps); err != nil {
			cfg.Log.Warn("no XDP: all packets take the kernel's own way", "links", cfg.XDP, "err", err)
		}
	}
	if err := k.takeOver(true, cfg.Log); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

// isFresh tells whether there are no maps yet, here and of others.
func (k *kernel) isFresh() (bool, error) {
	others, err := k.others()
	if err != nil || len(others) > 0 {
		return false, err
	}
	_, err = os.Stat(filepath.Join(k.dir, "peers"))
	return errors.Is(err, fs.ErrNotExist), nil
}

// specFor sets what the programs have to know from their first packet on, and
// the sizes of the maps.
func specFor(cookie uint64, sizes map[string]int) (*ebpf.CollectionSpec, error) {
	spec, err := loadProxy()
	if err != nil {
		return nil, fmt.Errorf("read the compiled eBPF programs: %w", err)
	}
	if err := resize(spec, sizes); err != nil {
		return nil, err
	}
	for name, value := range map[string]any{"node_netns": cookie, "can_refuse": canRefuse()} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s of the eBPF programs: %w", name, err)
		}
	}
	return spec, nil
}

func (k *kernel) close() error {
	if k.ended != nil {
		_ = k.ended.Close()
	}
	return errors.Join(k.forward.close(), k.progs.Close(), k.maps.Close())
}

// cookieOf gives the cookie of the calling thread's network namespace.
func cookieOf() (uint64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open a socket to ask for the network namespace: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("read the cookie of the network namespace (needs Linux 5.14): %w", err)
	}
	return cookie, nil
}
