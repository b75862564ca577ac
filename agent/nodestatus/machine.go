package nodestatus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"nodelet/agent/nodestatus/nodeplan"
)

// ReadMachine looks at the machine: root is where its /proc, /sys and /etc are, storage a directory
// on the file system that pods' local storage is on.
func ReadMachine(root, storage string) (*nodeplan.Machine, error) {
	h := host{root: root}
	m := &nodeplan.Machine{
		CPUs:       h.cpus(),
		MachineID:  h.first("etc/machine-id", "var/lib/dbus/machine-id"),
		SystemUUID: strings.ToLower(h.first("sys/class/dmi/id/product_uuid", "proc/device-tree/vm,uuid", "etc/machine-id")),
		BootID:     h.first("proc/sys/kernel/random/boot_id"),
		Kernel:     h.first("proc/sys/kernel/osrelease"),
		OSImage:    h.osImage(),
		OS:         runtime.GOOS,
		Arch:       runtime.GOARCH,
		HugePages:  h.hugePages(),
	}
	memory := h.meminfo()
	m.Memory, m.Swap = memory["MemTotal"], memory["SwapTotal"]
	if m.CPUs == 0 || m.Memory == 0 {
		return nil, fmt.Errorf("look at the machine: %d CPUs and %d bytes of memory below %s: /proc and /sys must be mounted", m.CPUs, m.Memory, root)
	}
	size, err := capacity(storage)
	if err != nil {
		return nil, fmt.Errorf("look at the file system of %s: %w", storage, err)
	}
	m.EphemeralStorage = size
	return m, nil
}

// capacity is the size of the file system a path is on, or its nearest parent that exists: the
// directory itself is made when it is first needed.
func capacity(path string) (uint64, error) {
	for {
		var st syscall.Statfs_t
		err := syscall.Statfs(path, &st)
		if err == nil {
			return st.Blocks * uint64(st.Bsize), nil
		}
		parent := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || parent == path {
			return 0, err
		}
		path = parent
	}
}

// host reads small files below a root.
type host struct{ root string }

// read gives the content of a file without surrounding space, empty when it cannot be read: what a
// machine does not tell is left out.
func (h host) read(name string) string {
	b, err := os.ReadFile(filepath.Join(h.root, name))
	if err != nil {
		return ""
	}
	return strings.Trim(strings.TrimSpace(string(b)), "\x00")
}

// first gives the first file that says something.
func (h host) first(names ...string) string {
	for _, name := range names {
		if s := h.read(name); s != "" {
			return s
		}
	}
	return ""
}

// cpus counts the CPUs that are online, like "0-3,6".
func (h host) cpus() int {
	n := 0
	for part := range strings.SplitSeq(h.read("sys/devices/system/cpu/online"), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 == nil && err2 == nil && b >= a {
			n += b - a + 1
		}
	}
	return n
}

// meminfo reads /proc/meminfo in bytes.
func (h host) meminfo() map[string]uint64 {
	values := map[string]uint64{}
	for line := range strings.Lines(h.read("proc/meminfo")) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			continue
		}
		if len(fields) > 1 && fields[1] == "kB" {
			n *= 1024
		}
		values[name] = n
	}
	return values
}

// osImage is the name of the distribution.
func (h host) osImage() string {
	text := h.first("etc/os-release", "usr/lib/os-release")
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return "Linux"
}

// hugePages maps page sizes to the bytes set aside in pages of that size.
func (h host) hugePages() map[uint64]uint64 {
	const dir = "sys/kernel/mm/hugepages"
	entries, err := os.ReadDir(filepath.Join(h.root, dir))
	if err != nil {
		return nil
	}
	pages := map[uint64]uint64{}
	for _, e := range entries {
		kb, ok := strings.CutPrefix(e.Name(), "hugepages-")
		size, err := strconv.ParseUint(strings.TrimSuffix(kb, "kB"), 10, 64)
		if !ok || err != nil {
			continue
		}
		n, err := strconv.ParseUint(h.read(filepath.Join(dir, e.Name(), "nr_hugepages")), 10, 64)
		if err == nil {
			pages[size*1024] = n * size * 1024
		}
	}
	return pages
}
