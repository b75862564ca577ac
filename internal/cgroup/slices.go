package cgroup

import (
	"math"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"nodelet/internal/model"
)

// Units makes and ends systemd's slices; *units.Manager does.
type Units interface {
	// Start makes a slice with limits, by the names of systemd's properties, or gives them to one that is there.
	Start(slice string, limits map[string]any) error
	Stop(slice string) error
	// Limit gives limits to a unit that is there.
	Limit(unit string, limits map[string]any) error
}

// at is the path of a cgroup by the names that lead to it from the root of the tree.
func (t *Tree) at(names ...string) string {
	names = slices.DeleteFunc(append(slices.Clone(t.names), names...), func(n string) bool { return n == "" })
	if t.units == nil {
		return "/" + path.Join(names...)
	}
	all := "/"
	for i := range names {
		all = path.Join(all, slice(names[:i+1]))
	}
	return all
}

// slice is the name of a slice. In systemd's nesting each name repeats those above it, with dashes between,
// so that a dash within a name becomes an underscore, as upstream writes it.
func slice(names []string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.Join(names, "\x00"), "-", "_"), "\x00", "-") + ".slice"
}

// podOf is the pod that has a cgroup of that name in a class.
func (t *Tree) podOf(q QoS, name string) (model.UID, bool) {
	if t.units == nil {
		uid, ok := strings.CutPrefix(name, "pod")
		return model.UID(uid), ok && uid != ""
	}
	uid, ok := strings.CutPrefix(strings.TrimSuffix(name, ".slice"), strings.TrimSuffix(path.Base(t.at(q.dir())), ".slice")+"-pod")
	return model.UID(strings.ReplaceAll(uid, "_", "-")), ok && uid != "" && strings.HasSuffix(name, ".slice")
}

// Container is the cgroup of a container in that of its pod: runtimes with the systemd driver make a scope.
func (t *Tree) Container(pod, id string) string {
	if t.units == nil {
		return path.Join(pod, id)
	}
	for _, runtime := range []string{"cri-containerd-", "crio-"} {
		scope := path.Join(pod, runtime+id+".scope")
		if _, err := t.stat(scope); err == nil {
			return scope
		}
	}
	return path.Join(pod, "cri-containerd-"+id+".scope")
}

// percent is the least quota that systemd knows, in microseconds a second.
const percent = 10_000

// rounded rounds a quota up to what systemd knows of: it writes its own figure to the kernel when it reads
// its configuration anew, and no container's quota may be larger than its pod's.
func (l Limits) rounded() Limits {
	if l.CPUQuota > 0 && l.CPUPeriod > 0 {
		l.CPUQuota = perSecond(l) * l.CPUPeriod / 1_000_000
	}
	return l
}

func perSecond(l Limits) int64 {
	return (l.CPUQuota*1_000_000/l.CPUPeriod + percent - 1) / percent * percent
}

// unitLimits are limits as systemd names them. A limit of zero lifts what was there, but for shares.
func unitLimits(l Limits, v2 bool) map[string]any {
	bound := func(n int64) uint64 {
		if n <= 0 {
			return math.MaxUint64
		}
		return uint64(n)
	}
	all := map[string]any{"TasksMax": bound(l.PIDs), "CPUQuotaPerSecUSec": uint64(math.MaxUint64)}
	if l.CPUQuota > 0 && l.CPUPeriod > 0 {
		all["CPUQuotaPerSecUSec"], all["CPUQuotaPeriodUSec"] = uint64(perSecond(l)), uint64(l.CPUPeriod)
	}
	memory := "MemoryLimit"
	if v2 {
		memory = "MemoryMax"
	}
	all[memory] = bound(l.Memory)
	switch {
	case l.CPUShares == 0:
	case v2:
		all["CPUWeight"] = weight(l.CPUShares)
	default:
		all["CPUShares"] = l.CPUShares
	}
	return all
}

// stopSlices ends the slices at a path and below it, the innermost first.
func (t *Tree) stopSlices(cgroup string) error {
	for _, tree := range t.h.all {
		for _, name := range children(filepath.Join(tree, cgroup)) {
			if strings.HasSuffix(name, ".slice") {
				if err := t.stopSlices(path.Join(cgroup, name)); err != nil {
					return err
				}
			}
		}
	}
	return t.units.Stop(path.Base(cgroup))
}
