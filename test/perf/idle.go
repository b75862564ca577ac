package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// settle is how long a cluster is left alone before it counts as idle.
const settle = 15 * time.Second

// ticks is how many units of CPU time a second has in /proc: USER_HZ, which is 100 on every Linux.
const ticks = 100

// idle starts pods, measures what daemon and control plane use while nothing happens, and removes the pods.
func idle(ctx context.Context, c *cluster, a *api, o options, rep *report) error {
	for i := range o.idlePods {
		if err := a.do(ctx, http.MethodPost, podsPath, pod(fmt.Sprintf("idle-%d", i)), nil); err != nil {
			return err
		}
	}
	if err := allReady(ctx, a, o.idlePods); err != nil {
		return err
	}
	if err := measureIdle(ctx, c, o.idle, rep); err != nil {
		return err
	}
	for i := range o.idlePods {
		if err := removePod(ctx, a, fmt.Sprintf("idle-%d", i)); err != nil {
			return err
		}
	}
	return nil
}

func measureIdle(ctx context.Context, c *cluster, over time.Duration, rep *report) error {
	pids := map[string]int{}
	for _, name := range []string{"nodelet", "controlplane"} {
		pid, err := c.pid(name)
		if err != nil {
			return err
		}
		pids[name] = pid
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	before, err := cpuTimes(pids)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := sleep(ctx, over); err != nil {
		return err
	}
	after, err := cpuTimes(pids)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	for name, label := range map[string]string{"nodelet": "node daemon", "controlplane": "control plane"} {
		pss, err := pss(pids[name])
		if err != nil {
			return err
		}
		rep.addValue(fmt.Sprintf("idle, %s, memory", label), pss/1e6)
		rep.addValue(fmt.Sprintf("idle, %s, CPU", label), 100*(after[name]-before[name]).Seconds()/took.Seconds())
	}
	return nil
}

func allReady(ctx context.Context, a *api, n int) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		var list corev1.PodList
		if err := a.do(ctx, http.MethodGet, podsPath, nil, &list); err != nil {
			return fmt.Errorf("wait for %d pods: %w", n, err)
		}
		ready := 0
		for i := range list.Items {
			if isReady(&list.Items[i]) {
				ready++
			}
		}
		if ready >= n {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// cpuTimes reads how much CPU time processes have used, without their children.
func cpuTimes(pids map[string]int) (map[string]time.Duration, error) {
	times := map[string]time.Duration{}
	for name, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, err
		}
		// The command in brackets may hold anything, so fields are counted from its end: state is the third.
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 13 {
			return nil, fmt.Errorf("read /proc/%d/stat: %q", pid, b)
		}
		user, err1 := strconv.ParseInt(f[11], 10, 64)
		system, err2 := strconv.ParseInt(f[12], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("read /proc/%d/stat: %q", pid, b)
		}
		times[name] = time.Duration(user+system) * time.Second / ticks
	}
	return times, nil
}

// pss reads the proportional set size of a process in bytes.
func pss(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no Pss in /proc/%d/smaps_rollup", pid)
}
