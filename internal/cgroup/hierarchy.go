package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hierarchies is what is mounted: one unified tree (v2), one tree per controller (v1), or v1 with a
// v2 tree beside it that has no controllers (hybrid).
type hierarchies struct {
	// unified is the v2 tree, empty when there is none.
	unified string
	// v2 are the controllers of the unified tree.
	v2 []string
	// v1 maps a controller to its tree.
	v1 map[string]string
	// all are the distinct trees: a pod may have left a cgroup in each of them.
	all []string
}

// find looks at what is mounted below mount, from a mountinfo file.
func find(mount, mountinfo string) (*hierarchies, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return nil, fmt.Errorf("find cgroup mounts: %w", err)
	}
	defer f.Close()
	h := &hierarchies{v1: map[string]string{}}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		h.take(lines.Text(), mount)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", mountinfo, err)
	}
	if h.unified != "" {
		b, err := os.ReadFile(filepath.Join(h.unified, "cgroup.controllers"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read controllers of %s: %w", h.unified, err)
		}
		h.v2 = strings.Fields(string(b))
	}
	if len(h.all) == 0 {
		return nil, fmt.Errorf("no cgroup file system below %s: mount cgroup2 there", mount)
	}
	slices.Sort(h.all)
	h.all = slices.Compact(h.all)
	return h, nil
}

// take reads one line of mountinfo: "... mountpoint options - type source superoptions".
func (h *hierarchies) take(line, mount string) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 6 || len(right) < 3 {
		return
	}
	dir := left[4]
	if dir != mount && !strings.HasPrefix(dir, mount+"/") {
		return
	}
	switch right[0] {
	case "cgroup2":
		if h.unified == "" {
			h.unified = dir
			h.all = append(h.all, dir)
		}
	case "cgroup":
		for _, option := range strings.Split(right[2], ",") {
			if slices.Contains(known, option) || strings.HasPrefix(option, "name=") {
				h.v1[option] = dir
				h.all = append(h.all, dir)
			}
		}
	}
}

// known are the controllers of v1; the other super options of a mount are not.
var known = []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "hugetlb", "blkio", "devices", "freezer", "net_cls", "net_prio", "perf_event", "rdma", "misc"}

// tree gives the tree a controller is in and whether that is v2; false when there is none.
func (h *hierarchies) tree(controller string) (dir string, v2, ok bool) {
	if slices.Contains(h.v2, controller) {
		return h.unified, true, true
	}
	dir, ok = h.v1[controller]
	return dir, false, ok
}
