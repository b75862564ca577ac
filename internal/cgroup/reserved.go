package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ForReserved turns what is reserved for the machine's own programs into limits of their cgroup. With
// compressible, only CPU counts: programs that are short of it are slow, and do not fail.
func ForReserved(list corev1.ResourceList, compressible bool) Limits {
	var l Limits
	if cpu, ok := list[corev1.ResourceCPU]; ok {
		l.CPUShares = shares(cpu.MilliValue())
	}
	if compressible {
		return l
	}
	l.Memory, l.HugePages = list.Memory().Value(), hugePages(list)
	if pids, ok := list["pid"]; ok {
		l.PIDs = pids.Value()
	}
	return l
}

// foreign is a cgroup that others made and keep: its place, and the unit it is of with the systemd driver.
type foreign struct{ path, unit string }

// foreign finds out what a name in a configuration stands for: a path below the cgroup file systems; with
// the systemd driver the last part is the unit, a slice unless it says otherwise, and tells the path by itself.
func (t *Tree) foreign(name string) (foreign, error) {
	clean := path.Clean("/" + name)
	if clean == "/" {
		return foreign{}, fmt.Errorf("cgroup %q: the root of all cgroups cannot be limited", name)
	}
	if t.units == nil {
		return foreign{path: clean}, nil
	}
	unit := path.Base(clean)
	if !slices.Contains([]string{".slice", ".service", ".scope"}, path.Ext(unit)) {
		unit += ".slice"
	}
	if path.Ext(unit) != ".slice" {
		return foreign{path: clean, unit: unit}, nil
	}
	at, names := "/", strings.Split(strings.TrimSuffix(unit, ".slice"), "-")
	for i := range names {
		at = path.Join(at, strings.Join(names[:i+1], "-")+".slice")
	}
	return foreign{path: at, unit: unit}, nil
}

// CheckForeign says what is missing for LimitForeign.
func (t *Tree) CheckForeign(name string, l Limits) error {
	f, err := t.foreign(name)
	if err != nil {
		return err
	}
	if l.Memory+l.PIDs == 0 && l.CPUShares == 0 && len(l.HugePages) == 0 {
		return fmt.Errorf("cgroup %s: nothing is reserved that could be its limit", f.path)
	}
	for _, c := range limited(l) {
		tree, _, ok := t.h.tree(c)
		if !ok {
			return fmt.Errorf("limit cgroup %s: this machine has no cgroup controller %s", f.path, c)
		}
		dir := filepath.Join(tree, f.path)
		_, err := os.Stat(dir)
		switch {
		case err == nil:
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("look for cgroup %s: %w", f.path, err)
		case f.unit != "":
			return fmt.Errorf("there is no cgroup %s: start its unit (systemctl start %s), and start the programs it is for in it (Slice=%s)", dir, f.unit, f.unit)
		default:
			return fmt.Errorf("there is no cgroup %s: make it before nodelet starts (mkdir -p %s), and put the programs it is for into it", dir, dir)
		}
	}
	return nil
}

// LimitForeign writes limits to a cgroup that others made, and nothing where a limit is zero. It makes no
// cgroup, and repeating it does no harm.
func (t *Tree) LimitForeign(name string, l Limits) error {
	if err := t.CheckForeign(name, l); err != nil {
		return err
	}
	f, err := t.foreign(name)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.unit != "" {
		all := unitLimits(l, t.V2())
		for property, unset := range map[string]bool{"CPUQuotaPerSecUSec": true, "TasksMax": l.PIDs == 0, "MemoryMax": l.Memory == 0, "MemoryLimit": l.Memory == 0} {
			if unset {
				delete(all, property)
			}
		}
		if err := t.units.Limit(f.unit, all); err != nil {
			return err
		}
	}
	for _, c := range limited(l) {
		tree, v2, _ := t.h.tree(c)
		if v2 {
			t.enable(tree, f.path, c)
		}
		for _, s := range settings(c, v2, l) {
			if s.file == "cpu.max" || s.file == "cpu.cfs_quota_us" {
				continue // a quota is not ours to lift
			}
			file := filepath.Join(tree, f.path, s.file)
			// As above, no file is made.
			if _, err := os.Stat(file); err != nil {
				return fmt.Errorf("limit cgroup %s: controller %s does not work there: %w", f.path, c, err)
			}
			if err := t.write(filepath.Dir(file), []setting{s}); err != nil {
				return fmt.Errorf("limit cgroup %s: %w", f.path, err)
			}
		}
	}
	return nil
}

// limited are the controllers that limits need.
func limited(l Limits) (controllers []string) {
	for c, needed := range map[string]bool{"cpu": l.CPUShares > 0, "memory": l.Memory > 0, "pids": l.PIDs > 0, "hugetlb": len(l.HugePages) > 0} {
		if needed {
			controllers = append(controllers, c)
		}
	}
	slices.Sort(controllers)
	return controllers
}
