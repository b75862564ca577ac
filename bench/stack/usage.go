package stack

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"nodelet/bench/lab"
)

// Usage is what some processes took during a time.
type Usage struct {
	// CPU is in percent of one core, Memory the proportional set size in MB at the end.
	CPU, Memory float64
}

// Measure takes what groups of processes use while nothing is done.
func Measure(ctx context.Context, over time.Duration, groups map[string][]int) (map[string]Usage, error) {
	before, err := times(groups)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := Sleep(ctx, over); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	after, err := times(groups)
	if err != nil {
		return nil, err
	}
	out := map[string]Usage{}
	for name, pids := range groups {
		u := Usage{CPU: 100 * (after[name] - before[name]).Seconds() / took.Seconds()}
		for _, pid := range pids {
			pss, err := lab.PSS(pid)
			if err != nil {
				return nil, err
			}
			u.Memory += pss / 1e6
		}
		out[name] = u
	}
	return out, nil
}

func times(groups map[string][]int) (map[string]time.Duration, error) {
	out := map[string]time.Duration{}
	for name, pids := range groups {
		for _, pid := range pids {
			cpu, err := lab.CPU(pid)
			if err != nil {
				return nil, err
			}
			out[name] += cpu
		}
	}
	return out, nil
}

// Sleep waits, unless it is interrupted.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("interrupted: %w", ctx.Err())
	case <-timer.C:
		return nil
	}
}

// Find gives the processes whose environment has a line: a container's HOSTNAME is its pod's name.
func Find(line string) []int {
	entries, _ := os.ReadDir("/proc")
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		if strings.Contains("\x00"+string(b), "\x00"+line+"\x00") {
			out = append(out, pid)
		}
	}
	return out
}
