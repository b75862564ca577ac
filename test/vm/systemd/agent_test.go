package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"nodelet/agent/server/nodelog"
	"nodelet/internal/cgroup"
	"nodelet/internal/units"
)

const unified = "/sys/fs/cgroup"

// TestAgentParts has parts of the agent do on this machine's systemd, journal and cgroups what their own
// tests do on made-up ones. No pods, no cluster.
func TestAgentParts(t *testing.T) {
	if line, _ := os.ReadFile("/proc/cmdline"); !strings.Contains(string(line), "nodelet.vm") {
		t.Skip("needs a machine of its own with systemd: make test-vm RUN=systemd")
	}
	for _, s := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"ReservedSlices", reservedSlices}, {"ReservedCgroups", reservedCgroups}, {"PodSlices", podSlices},
		{"LogQuery", logQuery}, {"FailSwapOn", failSwapOn},
	} {
		t.Run(s.name, s.run)
	}
}

func tree(t *testing.T, root string, u cgroup.Units) *cgroup.Tree {
	t.Helper()
	tree, err := cgroup.New(cgroup.Config{Root: root}, cgroup.Deps{Log: slog.New(slog.DiscardHandler), Units: u})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func systemdUnits(t *testing.T) *units.Manager {
	u := units.New()
	t.Cleanup(func() { _ = u.Close() })
	return u
}

// has compares files of a cgroup.
func has(t *testing.T, when, dir string, want map[string]string) {
	t.Helper()
	for file, text := range want {
		if got := strings.TrimSpace(read(t, filepath.Join(unified, dir, file))); got != text {
			t.Errorf("%s: %s/%s is %q, want %q", when, dir, file, got, text)
		}
	}
}

var someLimits = cgroup.Limits{CPUShares: 1024, Memory: 512 << 20, PIDs: 900}

// asFiles are someLimits as the kernel has them.
func asFiles() map[string]string {
	return map[string]string{"cpu.weight": "39", "memory.max": "536870912", "pids.max": "900"}
}

// reservedSlices: limits of systemReservedCgroup and kubeReservedCgroup are systemd's own, so that it keeps them.
func reservedSlices(t *testing.T) {
	tr := tree(t, "vmtest", systemdUnits(t))
	err := tr.CheckForeign("/vm-reserved.slice", someLimits)
	if err == nil || !strings.Contains(err.Error(), "systemctl start vm-reserved.slice") {
		t.Fatalf("a slice that is not there: %v", err)
	}
	run(t, "systemctl", "start", "vm-reserved.slice")
	t.Cleanup(func() { run(t, "systemctl", "stop", "vm-reserved.slice", "vm.slice") })
	for _, name := range []string{"/vm-reserved.slice", "vm.slice/vm-reserved"} {
		if err := tr.LimitForeign(name, someLimits); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		has(t, "limited", "vm.slice/vm-reserved.slice", asFiles())
	}
	run(t, "systemctl", "daemon-reload")
	has(t, "after a reload", "vm.slice/vm-reserved.slice", asFiles())
	// Only what is reserved is limited; the daemons of the machine go on below their own limits.
	if err := tr.LimitForeign("/system.slice", cgroup.Limits{CPUShares: 512}); err != nil {
		t.Fatal(err)
	}
	has(t, "shares only", "system.slice", map[string]string{"cpu.weight": "20", "memory.max": "max"})
}

// reservedCgroups: the same for a cgroup that no unit has.
func reservedCgroups(t *testing.T) {
	tr := tree(t, "vmtest", nil)
	const name = "/vmreserved"
	if err := tr.CheckForeign(name, someLimits); err == nil || !strings.Contains(err.Error(), "mkdir -p "+unified+name) {
		t.Fatalf("a cgroup that is not there: %v", err)
	}
	if err := os.Mkdir(unified+name, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(unified + name) })
	if err := tr.LimitForeign(name, someLimits); err != nil {
		t.Fatal(err)
	}
	has(t, "limited", name, asFiles())
}

// podSlices: a pod's slice is made, grows before its containers do, shrinks after them, and goes.
func podSlices(t *testing.T) {
	tr := tree(t, "vmtest", systemdUnits(t))
	t.Cleanup(func() {
		if err := tr.Cleanup(); err != nil {
			t.Error(err)
		}
		if left := tr.Residue(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	pod := cgroup.Pod{UID: "00000000-0000-4000-8000-000000000001", QoS: cgroup.Burstable, Limits: cgroup.Limits{
		CPUShares: 512, CPUQuota: 50_000, CPUPeriod: 100_000, Memory: 64 << 20, PIDs: 100,
	}}
	if err := errors.Join(tr.EnsureRoot(cgroup.Limits{CPUShares: 2048, Memory: 1 << 30}), second(tr.Ensure(pod))); err != nil {
		t.Fatal(err)
	}
	dir := tr.Path(pod.QoS, pod.UID)
	has(t, "made", dir, map[string]string{"cpu.max": "50000 100000", "memory.max": "67108864", "pids.max": "100", "cpu.weight": "20"})
	resized := pod
	resized.Limits.CPUQuota, resized.Limits.Memory = 80_000, 32<<20
	if err := tr.Grow(resized); err != nil {
		t.Fatal(err)
	}
	has(t, "grown", dir, map[string]string{"cpu.max": "80000 100000", "memory.max": "67108864"})
	if err := second(tr.Ensure(resized)); err != nil {
		t.Fatal(err)
	}
	run(t, "systemctl", "daemon-reload")
	has(t, "after a reload", dir, map[string]string{"cpu.max": "80000 100000", "memory.max": "33554432"})
	if got := tr.Pods(); len(got) != 1 || got[0] != pod.UID {
		t.Errorf("pods %v", got)
	}
	if err := tr.Remove(pod.UID); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(unified + dir); err == nil {
		t.Errorf("%s is left", dir)
	}
}

func second[T any](_ T, err error) error { return err }

// logQuery asks the machine's journal (KEP-2258).
func logQuery(t *testing.T) {
	began := time.Now().Add(-time.Second)
	run(t, "systemd-run", "--unit=vmlog", "--wait", "sh", "-c", "printf 'first %s\\nsecond %s\\n' line line")
	run(t, "journalctl", "--sync")
	r := nodelog.New(nodelog.Config{Dir: "/var/log", Journalctl: "journalctl", Aliases: map[string]string{"kubelet": "vmlog"}})
	one, last := 1, 0
	for name, c := range map[string]struct {
		query  nodelog.Query
		is, no string
	}{
		"all":         {nodelog.Query{}, "first line", "-- No entries --"},
		"pattern":     {nodelog.Query{Pattern: "sec.nd"}, "second line", "first line"},
		"this boot":   {nodelog.Query{Boot: &last}, "first line", "-- No entries --"},
		"since":       {nodelog.Query{Since: began}, "first line", "-- No entries --"},
		"until":       {nodelog.Query{Until: began.Add(-time.Hour)}, "-- No entries --", "first line"},
		"tail":        {nodelog.Query{Tail: &one, Pattern: "line"}, "second line", "first line"},
		"no such log": {nodelog.Query{Services: []string{"nothing"}}, "log not found for nothing", "line"},
	} {
		q := c.query
		if q.Services == nil {
			q.Services = []string{"kubelet"}
		}
		var out strings.Builder
		if err := errors.Join(q.Check(), r.Copy(t.Context(), &out, q)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.Contains(out.String(), c.is) || strings.Contains(out.String(), c.no) {
			t.Errorf("%s: want %q, not %q:\n%s", name, c.is, c.no, out.String())
		}
	}
}

// swapOn gives the machine swap.
func swapOn(t *testing.T) {
	t.Helper()
	const file = "/swap"
	if _, err := os.Stat(file); err != nil {
		run(t, "dd", "if=/dev/zero", "of="+file, "bs=1M", "count=128")
		run(t, "chmod", "600", file)
		run(t, "mkswap", file)
	}
	run(t, "swapon", file)
}

// failSwapOn: a kubelet does not start on a machine with swap, unless it is told that this is meant.
func failSwapOn(t *testing.T) {
	if !tree(t, "vmtest", nil).AccountsSwap() {
		t.Error("this kernel is said not to limit the swap of cgroups")
	}
	_ = tree(t, "vmtest", nil).Cleanup()
	swapOn(t)
	t.Cleanup(func() { run(t, "swapoff", "/swap") })
	serveAPI(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	write(t, "/etc/kubelet.yaml", "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailSwapOn: true\n")
	cmd := exec.CommandContext(ctx, programs+"nodelet", "node", "--components=agent", "--kubeconfig=/run/dns.kubeconfig", "--node-ip=192.0.2.77",
		"--kubelet-config=/etc/kubelet.yaml", "--data-dir=/run/swap/data", "--run-dir=/run/swap/run")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || ctx.Err() != nil || !strings.Contains(string(out), "swapoff -a") {
		t.Errorf("%v\n%s", err, out)
	}
}

// swapOf gives what of the machine's swap a container with that request may use (KEP-2400), in whole pages.
func swapOf(t *testing.T, request int64) string {
	t.Helper()
	figures := map[string]int64{}
	for line := range strings.Lines(read(t, "/proc/meminfo")) {
		if f := strings.Fields(line); len(f) == 3 {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			figures[strings.TrimSuffix(f[0], ":")] = kib << 10
		}
	}
	bytes := int64(float64(request) / float64(figures["MemTotal"]) * float64(figures["SwapTotal"]))
	return fmt.Sprint(bytes / 4096 * 4096)
}
