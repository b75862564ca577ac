package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// make makes one cgroup, with those above it, in every tree whose controller has a limit or a count
// for us, and writes the limits.
func (t *Tree) make(cgroup string, l Limits) error {
	if t.units != nil {
		l = l.rounded()
		if err := t.units.Start(filepath.Base(cgroup), unitLimits(l, t.V2())); err != nil {
			return err
		}
	}
	for _, c := range []string{"cpu", "cpuacct", "memory", "pids", "hugetlb"} {
		tree, v2, ok := t.h.tree(c)
		if !ok {
			if c != "cpuacct" && c != "hugetlb" { // part of cpu in v2; not everywhere
				t.once("no cgroup controller", "controller", c, "effect", "its limits are not enforced for pods as a whole")
			}
			continue
		}
		if v2 {
			t.enable(tree, cgroup, c)
		}
		dir := filepath.Join(tree, cgroup)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := t.write(dir, settings(c, v2, l)); err != nil {
			return err
		}
	}
	return nil
}

// setting is one file of a cgroup and what to write into it.
type setting struct{ file, value string }

// settings are the files of one controller for the limits. A limit of zero lifts what was there, but
// for shares: every cgroup has some.
func settings(controller string, v2 bool, l Limits) []setting {
	switch {
	case controller == "cpu" && v2:
		s := []setting{{"cpu.max", "max"}}
		if l.CPUQuota > 0 {
			s[0].value = fmt.Sprintf("%d %d", l.CPUQuota, l.CPUPeriod)
		}
		if l.CPUShares > 0 {
			s = append(s, setting{"cpu.weight", strconv.FormatUint(weight(l.CPUShares), 10)})
		}
		return s
	case controller == "cpu":
		s := []setting{{"cpu.cfs_quota_us", "-1"}}
		if l.CPUQuota > 0 {
			s = []setting{{"cpu.cfs_period_us", strconv.FormatInt(l.CPUPeriod, 10)}, {"cpu.cfs_quota_us", strconv.FormatInt(l.CPUQuota, 10)}}
		}
		if l.CPUShares > 0 {
			s = append(s, setting{"cpu.shares", strconv.FormatUint(l.CPUShares, 10)})
		}
		return s
	case controller == "memory" && v2:
		return []setting{{"memory.max", number(l.Memory, "max")}}
	case controller == "memory":
		return []setting{{"memory.limit_in_bytes", number(l.Memory, "-1")}}
	case controller == "pids":
		return []setting{{"pids.max", number(l.PIDs, "max")}}
	case controller == "hugetlb":
		var s []setting
		for size, bytes := range l.HugePages {
			file := "hugetlb." + size + ".limit_in_bytes"
			if v2 {
				file = "hugetlb." + size + ".max"
			}
			s = append(s, setting{file, strconv.FormatInt(bytes, 10)})
		}
		return s
	}
	return nil
}

func number(n int64, none string) string {
	if n <= 0 {
		return none
	}
	return strconv.FormatInt(n, 10)
}

// write writes settings. A file that the kernel does not have costs that limit and is logged once.
func (t *Tree) write(dir string, all []setting) error {
	for _, s := range all {
		// Without O_CREATE, so that a missing file is an error even where the tree is no cgroup file system.
		f, err := os.OpenFile(filepath.Join(dir, s.file), os.O_WRONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			t.once("no cgroup file", "file", s.file, "effect", "this limit is not enforced")
			continue
		}
		if err != nil {
			return err
		}
		_, err = f.WriteString(s.value)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("write %q: %w", s.value, err)
		}
	}
	return nil
}

// enable hands a controller of v2 down to a cgroup: each one above it must pass it on.
func (t *Tree) enable(tree, cgroup, controller string) {
	dir := tree
	for _, name := range strings.Split(strings.Trim(cgroup, "/"), "/") {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return // make comes upon the same error and reports it
		}
		file := filepath.Join(dir, "cgroup.subtree_control")
		if err := os.WriteFile(file, []byte("+"+controller), 0o644); err != nil {
			t.once("cgroup controller is not handed down", "controller", controller, "cgroup", dir, "err", err,
				"effect", "its limits are not enforced below")
		}
		dir = filepath.Join(dir, name)
	}
}

// once logs a degradation the first time it is met; t.mu is held.
func (t *Tree) once(msg string, args ...any) {
	key := fmt.Sprint(append([]any{msg}, args[:2]...)...)
	if t.warned[key] {
		return
	}
	t.warned[key] = true
	t.log.Warn(msg, args...)
}

// children are the names of the cgroups directly below a directory.
func children(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // not there, or gone while we look: it has no children
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// readShares is the CPU weight of a cgroup in shares.
func readShares(dir string, v2 bool) uint64 {
	if v2 {
		w := readUint(filepath.Join(dir, "cpu.weight"))
		if w == 0 {
			return 0
		}
		return minShares + (w-1)*(maxShares-minShares)/(maximumWeight-1)
	}
	return readUint(filepath.Join(dir, "cpu.shares"))
}

// processes are the pids in a cgroup and those below it.
func processes(dir string) []int {
	var pids []int
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err == nil {
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	for _, name := range children(dir) {
		pids = append(pids, processes(filepath.Join(dir, name))...)
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// removeTree removes a cgroup and those below it, the deepest first. The files in them are the
// kernel's and go with the directory.
func removeTree(dir string) error {
	for _, name := range children(dir) {
		if err := removeTree(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	err := syscall.Rmdir(dir)
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%s: %w: %v", dir, ErrBusy, processes(dir))
	}
	return fmt.Errorf("%s: %w", dir, err)
}
