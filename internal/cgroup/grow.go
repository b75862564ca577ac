package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Grow makes the cgroup of a pod and raises its limits to those given; none is
// lowered. It comes before limits of containers in it change, as Ensure comes after.
func (t *Tree) Grow(pod Pod) error {
	pod.Limits = wider(t.limits(t.Path(pod.QoS, pod.UID)), pod.Limits)
	_, err := t.Ensure(pod)
	return err
}

// limits reads CPU and memory limits of a cgroup; what is not there has none.
func (t *Tree) limits(cgroup string) Limits {
	var l Limits
	if tree, v2, ok := t.h.tree("cpu"); ok {
		dir := filepath.Join(tree, cgroup)
		l.CPUShares = readShares(dir, v2)
		if v2 {
			l.CPUQuota, l.CPUPeriod = parseMax(readText(filepath.Join(dir, "cpu.max")))
		} else {
			l.CPUQuota = number64(readText(filepath.Join(dir, "cpu.cfs_quota_us")))
			l.CPUPeriod = number64(readText(filepath.Join(dir, "cpu.cfs_period_us")))
		}
	}
	if tree, v2, ok := t.h.tree("memory"); ok {
		file := "memory.limit_in_bytes"
		if v2 {
			file = "memory.max"
		}
		l.Memory = number64(readText(filepath.Join(tree, cgroup, file)))
	}
	return l
}

// wider takes the more generous of each limit; zero, no limit, is the most generous.
func wider(have, want Limits) Limits {
	want.CPUShares = max(have.CPUShares, want.CPUShares)
	switch {
	case have.CPUQuota == 0 || want.CPUQuota == 0:
		want.CPUQuota = 0
	case have.CPUPeriod == want.CPUPeriod:
		want.CPUQuota = max(have.CPUQuota, want.CPUQuota)
	}
	if have.Memory == 0 || want.Memory == 0 {
		want.Memory = 0
	} else {
		want.Memory = max(have.Memory, want.Memory)
	}
	return want
}

func readText(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "" // a cgroup that is not there yet has no limits
	}
	return strings.TrimSpace(string(b))
}

// parseMax reads "quota period" of cpu.max, where a quota of "max" is none.
func parseMax(text string) (quota, period int64) {
	q, p, _ := strings.Cut(text, " ")
	return number64(q), number64(p)
}

// number64 reads a limit; none is written as max, as -1, or in memory.limit_in_bytes as a number near 2^63.
func number64(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 1<<60 {
		return 0
	}
	return n
}
