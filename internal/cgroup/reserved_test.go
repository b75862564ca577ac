package cgroup

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func reserved(list map[corev1.ResourceName]string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, text := range list {
		out[name] = resource.MustParse(text)
	}
	return out
}

func TestForReserved(t *testing.T) {
	list := reserved(map[corev1.ResourceName]string{"cpu": "500m", "memory": "64Mi", "pid": "100", "hugepages-2Mi": "4Mi", "ephemeral-storage": "1Gi"})
	if got, want := ForReserved(list, false), (Limits{CPUShares: 512, Memory: 64 << 20, PIDs: 100, HugePages: map[string]int64{"2MB": 4 << 20}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := ForReserved(list, true), (Limits{CPUShares: 512}); !reflect.DeepEqual(got, want) {
		t.Errorf("compressible: %+v, want %+v", got, want)
	}
	if got := ForReserved(nil, false); !reflect.DeepEqual(got, Limits{}) {
		t.Errorf("nothing: %+v", got)
	}
}

// On the machine's own cgroups: only what is reserved is written, and a cgroup that is missing is said, not made.
func TestLimitForeign(t *testing.T) {
	tree := private(t)
	name := path.Join(tree.root, "system")
	limits := Limits{CPUShares: 512, Memory: 64 << 20, PIDs: 100}
	err := tree.LimitForeign(name, limits)
	if err == nil || !strings.Contains(err.Error(), "mkdir -p") || !strings.Contains(err.Error(), name) {
		t.Fatalf("a cgroup that is not there: %v", err)
	}
	if left := tree.Residue(); len(left) > 0 {
		t.Fatalf("made %v", left)
	}
	if err := tree.make(name, Limits{CPUShares: 100, CPUQuota: 50_000, CPUPeriod: quotaPeriod, Memory: 128 << 20}); err != nil {
		t.Fatal(err)
	}
	want := func(what, memory, pids string) {
		t.Helper()
		if got := file(t, tree, "memory", name, "memory.limit_in_bytes", "memory.max"); got != memory {
			t.Errorf("%s: memory %s, want %s", what, got, memory)
		}
		if got := file(t, tree, "pids", name, "pids.max", "pids.max"); got != pids {
			t.Errorf("%s: pids %s, want %s", what, got, pids)
		}
		if got := file(t, tree, "cpu", name, "cpu.cfs_quota_us", "cpu.max"); !strings.HasPrefix(got, "50000") {
			t.Errorf("%s: the quota became %s", what, got)
		}
	}
	if err := tree.LimitForeign(name, Limits{CPUShares: 512}); err != nil {
		t.Fatal(err)
	}
	want("CPU only", "134217728", "max")
	if got := file(t, tree, "cpu", name, "cpu.shares", "cpu.weight"); got != "512" && got != "20" {
		t.Errorf("shares %s", got)
	}
	for range 2 {
		if err := tree.LimitForeign(name, limits); err != nil {
			t.Fatal(err)
		}
	}
	want("all", "67108864", "100")
	for bad, says := range map[string]string{"/": "root of all", "": "root of all", name: "nothing is reserved"} {
		if err := tree.CheckForeign(bad, Limits{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The files of v2; a controller that the cgroup has not is an error, and not a limit that is silently missing.
func TestLimitForeignV2(t *testing.T) {
	tree := fakeV2(t)
	dir := filepath.Join(tree.h.unified, "system.slice")
	for _, f := range []string{"cpu.max", "cpu.weight", "memory.max"} {
		write(t, dir, f, "untouched")
	}
	if err := tree.LimitForeign("/system.slice", Limits{CPUShares: 1024, Memory: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	for f, want := range map[string]string{"cpu.max": "untouched", "cpu.weight": "39", "memory.max": "1073741824"} {
		if b, err := os.ReadFile(filepath.Join(dir, f)); err != nil || !strings.HasPrefix(string(b), want) {
			t.Errorf("%s is %q %v, want %q", f, b, err, want)
		}
	}
	if err := tree.LimitForeign("/system.slice", Limits{PIDs: 5}); err == nil || !strings.Contains(err.Error(), "pids") {
		t.Errorf("no pids.max: %v", err)
	}
}

// With the systemd driver limits are properties of the unit, so that systemd does not take them back.
func TestLimitForeignUnits(t *testing.T) {
	tree, s := withSystemd(t, "kubepods")
	for name, where := range map[string]string{
		"/system.slice": "/system.slice", "system": "/system.slice", "/runtime-kube.slice": "/runtime.slice/runtime-kube.slice",
		"/runtime.slice/runtime-kube.slice": "/runtime.slice/runtime-kube.slice", "/system.slice/nodelet.service": "/system.slice/nodelet.service",
	} {
		if got, err := tree.foreign(name); err != nil || got.path != where || got.unit == "" {
			t.Errorf("%s: %+v %v, want %s", name, got, err, where)
		}
	}
	err := tree.LimitForeign("/system.slice", Limits{CPUShares: 1024})
	if err == nil || !strings.Contains(err.Error(), "systemctl start system.slice") || len(s.slices) > 0 {
		t.Errorf("no slice: %v, made %v", err, s.names())
	}
	dir := filepath.Join(s.mount, "system.slice")
	for _, f := range []string{"cpu.max", "cpu.weight", "memory.max"} {
		write(t, dir, f, "")
	}
	if err := tree.LimitForeign("/system.slice", Limits{CPUShares: 1024, Memory: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"CPUWeight": uint64(39), "MemoryMax": uint64(1 << 30)}
	if got := s.slices["system.slice"]; !maps.Equal(got, want) {
		t.Errorf("properties %v, want %v", got, want)
	}
}
