package cgroup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"nodelet/internal/model"
)

// private gives a tree of its own on the machine's real hierarchies, gone when the test ends.
func private(t *testing.T) *Tree {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: writes cgroups")
	}
	root := fmt.Sprintf("nodelet-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	tree, err := New(Config{Root: root}, Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skipf("no usable cgroups here: %v", err)
	}
	t.Cleanup(func() {
		if err := tree.Cleanup(); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if left := tree.Residue(); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return tree
}

// file reads a file of a pod's cgroup in the tree of a controller.
func file(t *testing.T, tree *Tree, controller, cgroup, v1, v2 string) string {
	t.Helper()
	dir, isV2, ok := tree.h.tree(controller)
	if !ok {
		t.Skipf("no %s controller here", controller)
	}
	name := v1
	if isV2 {
		name = v2
	}
	b, err := os.ReadFile(filepath.Join(dir, cgroup, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestEnsureAndRemove(t *testing.T) {
	tree := private(t)
	pod := Pod{UID: "11111111-aaaa", QoS: Burstable, Limits: Limits{
		CPUShares: 512, CPUQuota: 50_000, CPUPeriod: quotaPeriod, Memory: 64 << 20, PIDs: 100,
	}}
	var path string
	for range 3 { // idempotent
		var err error
		if path, err = tree.Ensure(pod); err != nil {
			t.Fatal(err)
		}
	}
	if want := tree.root + "/burstable/pod11111111-aaaa"; path != want {
		t.Errorf("path %s, want %s", path, want)
	}
	if got := file(t, tree, "memory", path, "memory.limit_in_bytes", "memory.max"); got != "67108864" {
		t.Errorf("memory limit %s", got)
	}
	if got := file(t, tree, "pids", path, "pids.max", "pids.max"); got != "100" {
		t.Errorf("pids limit %s", got)
	}
	if !tree.V2() {
		if got := file(t, tree, "cpu", path, "cpu.shares", ""); got != "512" {
			t.Errorf("shares %s", got)
		}
		if got := file(t, tree, "cpu", path, "cpu.cfs_quota_us", ""); got != "50000" {
			t.Errorf("quota %s", got)
		}
	}
	// A resize lifts limits again.
	pod.Limits = Limits{CPUShares: 512}
	if _, err := tree.Ensure(pod); err != nil {
		t.Fatal(err)
	}
	if got := file(t, tree, "pids", path, "pids.max", "pids.max"); got != "max" {
		t.Errorf("pids limit after it was lifted: %s", got)
	}
	if got := tree.Pods(); !reflect.DeepEqual(got, []model.UID{pod.UID}) {
		t.Errorf("pods %v", got)
	}
	for range 2 {
		if err := tree.Remove(pod.UID); err != nil {
			t.Fatal(err)
		}
	}
	if got := tree.Pods(); len(got) != 0 {
		t.Errorf("pods after removal %v", got)
	}
}

// The class of burstable pods weighs what its pods weigh together; best effort the least.
func TestClassWeights(t *testing.T) {
	tree := private(t)
	for i, s := range []uint64{512, 1024, 256} {
		if _, err := tree.Ensure(Pod{UID: model.UID(fmt.Sprint("b", i)), QoS: Burstable, Limits: Limits{CPUShares: s}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tree.Ensure(Pod{UID: "best", QoS: BestEffort, Limits: Limits{CPUShares: 2}}); err != nil {
		t.Fatal(err)
	}
	if tree.V2() {
		t.Skip("weights of v2 are rounded")
	}
	check := func(class, want string) {
		t.Helper()
		if got := file(t, tree, "cpu", tree.root+"/"+class, "cpu.shares", ""); got != want {
			t.Errorf("%s has %s shares, want %s", class, got, want)
		}
	}
	check("burstable", "1792")
	check("besteffort", "2")
	if err := tree.Remove("b1"); err != nil {
		t.Fatal(err)
	}
	check("burstable", "768")
}

func TestBusyIsNotRemoved(t *testing.T) {
	tree := private(t)
	path, err := tree.Ensure(Pod{UID: "busy", QoS: BestEffort})
	if err != nil {
		t.Fatal(err)
	}
	dir, _, ok := tree.h.tree("pids")
	if !ok {
		t.Skip("no pids controller")
	}
	// As a container would be: one level below the pod.
	inner := filepath.Join(dir, path, "container")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), []byte(fmt.Sprint(cmd.Process.Pid)), 0o644); err != nil {
		t.Skipf("cannot move a process: %v", err)
	}
	if err := tree.Remove("busy"); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("remove with a process: %v", err)
	}
	if err := tree.Cleanup(); !errors.Is(err, ErrBusy) {
		t.Errorf("clean up with a process: %v", err)
	}
	pids, err := tree.Processes("busy")
	if err != nil || !reflect.DeepEqual(pids, []int{cmd.Process.Pid}) {
		t.Errorf("processes %v %v", pids, err)
	}
	u, err := tree.Usage(path, time.Now())
	if err != nil || u.PIDs != 1 {
		t.Errorf("usage %+v %v", u, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := tree.Remove("busy"); err != nil {
		t.Errorf("remove after the process ended: %v", err)
	}
}

// A container's usage is seen in its own cgroup and in the pod's.
func TestUsage(t *testing.T) {
	tree := private(t)
	path, err := tree.Ensure(Pod{UID: "used", QoS: Guaranteed, Limits: Limits{Memory: 256 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range tree.dirs("used") {
		if err := os.MkdirAll(filepath.Join(d, "c1"), 0o755); err != nil {
			t.Fatal(err)
		}
		if tree.V2() {
			// As runc does when it makes a container's cgroup.
			write(t, d, "cgroup.subtree_control", "+memory +pids")
		}
	}
	cmd := exec.Command("sh", "-c", "read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read x")
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for _, d := range tree.dirs("used") {
		if err := os.WriteFile(filepath.Join(d, "c1", "cgroup.procs"), []byte(fmt.Sprint(cmd.Process.Pid)), 0o644); err != nil {
			t.Skipf("cannot move a process: %v", err)
		}
	}
	fmt.Fprintln(in)
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	for _, cgroup := range []string{path, path + "/c1"} {
		u, err := tree.Usage(cgroup, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if u.CPU <= 0 || u.PIDs != 1 {
			t.Errorf("%s: %+v", cgroup, u)
		}
	}
	if u, _ := tree.Usage(path, time.Now()); u.MemoryLimit != 256<<20 {
		t.Errorf("memory limit %d", u.MemoryLimit)
	}
	if _, err := tree.Usage(path+"/nope", time.Now()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("usage of what is not there: %v", err)
	}
	if u, err := tree.Usage("/", time.Now()); err != nil || u.CPU == 0 || u.Memory == 0 {
		t.Errorf("usage of the machine: %+v %v", u, err)
	}
	if n, err := tree.WorkingSet("/"); err != nil || n == 0 {
		t.Errorf("working set of the machine: %d %v", n, err)
	}
	if _, err := tree.WorkingSet(path + "/nope"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("working set of what is not there: %v", err)
	}
}

// fakeV2 is a directory with the files a cgroup2 mount would have; directories made in it have none.
func fakeV2(t *testing.T) *Tree {
	t.Helper()
	mount := t.TempDir()
	write(t, mount, "cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
	write(t, mount, "cgroup.subtree_control", "")
	info := filepath.Join(t.TempDir(), "mountinfo")
	line := "25 1 0:22 / " + mount + " rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	if err := os.WriteFile(info, []byte("1 0 8:1 / / rw - ext4 /dev/sda rw\n"+line), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := New(Config{Root: "kubepods", Mount: mount, MountInfo: info}, Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The files of v2, on a made-up tree: the kernel of the build machine has v1.
func TestV2Files(t *testing.T) {
	tree := fakeV2(t)
	if !tree.V2() {
		t.Fatal("not v2")
	}
	dir := filepath.Join(tree.h.unified, tree.Path(Guaranteed, "u"))
	for _, f := range []string{"cpu.max", "cpu.weight", "memory.max", "pids.max", "hugetlb.2MB.max"} {
		write(t, dir, f, "")
	}
	_, err := tree.Ensure(Pod{UID: "u", QoS: Guaranteed, Limits: Limits{
		CPUShares: 1024, CPUQuota: 100_000, CPUPeriod: quotaPeriod, Memory: 1 << 30, HugePages: map[string]int64{"2MB": 4 << 20},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for f, want := range map[string]string{
		"cpu.max": "100000 100000", "cpu.weight": "39", "memory.max": "1073741824", "pids.max": "max", "hugetlb.2MB.max": "4194304",
	} {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil || string(b) != want {
			t.Errorf("%s is %q %v, want %q", f, b, err, want)
		}
	}
	write(t, dir, "cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 10\nnr_throttled 3\nthrottled_usec 20\n")
	write(t, dir, "memory.current", "10000\n")
	write(t, dir, "memory.stat", "anon 4000\nfile 6000\nfile_mapped 300\nkernel 200\ninactive_file 2500\npgfault 7\npgmajfault 1\n")
	write(t, dir, "memory.events", "low 0\noom 1\noom_kill 2\n")
	write(t, dir, "memory.peak", "20000\n")
	write(t, dir, "memory.swap.current", "4096\n")
	write(t, dir, "memory.swap.max", "0\n")
	write(t, dir, "io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=3 wios=4\n")
	write(t, dir, "cgroup.procs", "42\n43\n")
	write(t, dir, "pids.current", "5\n")
	write(t, dir, "cpu.pressure", "some avg10=1.50 avg60=0.20 avg300=0.10 total=4000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	u, err := tree.Usage(tree.Path(Guaranteed, "u"), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{
		CPU: 1500 * time.Microsecond, CPUUser: time.Millisecond, CPUSystem: 500 * time.Microsecond,
		Spec:  CPUSpec{Quota: 100_000, Period: 100_000, Shares: 998},
		Cache: 6000, Mapped: 300, Kernel: 200, Peak: 20000, Swap: 4096, SwapLimit: new(uint64),
		IO:     IO{ReadBytes: 4097, WriteBytes: 8194, Reads: 4, Writes: 6},
		Memory: 10000, WorkingSet: 7500, RSS: 4000, MemoryLimit: 1 << 30, PageFaults: 7, MajorPageFaults: 1,
		PIDs: 5, OOMKills: 2, Throttled: Throttled{Periods: 10, ThrottledPeriods: 3, Time: 20 * time.Microsecond},
		Pressure: &Pressure{CPU: Stall{Some: StallTime{Avg10: 1.5, Avg60: .2, Avg300: .1, Total: 4 * time.Millisecond}}},
	}
	if !reflect.DeepEqual(u, want) {
		t.Errorf("usage\n%+v\nwant\n%+v", u, want)
	}
	write(t, tree.h.unified, "memory.stat", "anon 10\nfile 5\nkernel 2\ninactive_file 3\n")
	for cgroup, want := range map[string]uint64{tree.Path(Guaranteed, "u"): 7500, "/": 14} {
		if got, err := tree.WorkingSet(cgroup); err != nil || got != want {
			t.Errorf("working set of %s: %d %v, want %d", cgroup, got, err, want)
		}
	}
}

func TestProcess(t *testing.T) {
	tree := fakeV2(t)
	if got := tree.Process("/none"); got != 0 {
		t.Errorf("process of a cgroup that is not there: %d", got)
	}
	write(t, filepath.Join(tree.h.unified, "some"), "cgroup.procs", "42\n43\n")
	if got := tree.Process("/some"); got != 42 {
		t.Errorf("process %d", got)
	}
}

func TestNoCgroups(t *testing.T) {
	info := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(info, []byte("1 0 8:1 / / rw - ext4 /dev/sda rw\nnonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Config{{Root: "kubepods", MountInfo: info}, {Root: "", MountInfo: info}, {Root: "/"}, {Root: "..", MountInfo: "/nope"}} {
		if _, err := New(c, Deps{}); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestBadUID(t *testing.T) {
	tree := fakeV2(t)
	for _, uid := range []model.UID{"", ".", "..", "../../system.slice", "a/b", "a\x00b", model.UID(strings.Repeat("a", 300))} {
		if _, err := tree.Ensure(Pod{UID: uid}); err == nil {
			t.Errorf("a cgroup for UID %q", uid)
		}
		if err := tree.Remove(uid); err == nil {
			t.Errorf("removal for UID %q", uid)
		}
	}
}

// Weights never leave the kernel's range and never turn round.
func TestWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		wa, wb := weight(a), weight(b)
		if wa < 1 || wa > maximumWeight || (a <= b) != (wa <= wb) && wa != wb {
			t.Fatalf("weight(%d)=%d weight(%d)=%d", a, wa, b, wb)
		}
	})
	if got := shares(1 << 40); got != maxShares {
		t.Errorf("shares of too much CPU: %d", got)
	}
}

func list(cpu, memory string) corev1.ResourceList {
	l := corev1.ResourceList{}
	if cpu != "" {
		l[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		l[corev1.ResourceMemory] = resource.MustParse(memory)
	}
	return l
}

func container(requests, limits corev1.ResourceList) corev1.Container {
	return corev1.Container{Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func TestForPod(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	sidecar := container(list("200m", "10Mi"), list("200m", "10Mi"))
	sidecar.RestartPolicy = &always
	none := corev1.ResourceList{}
	tests := []struct {
		name string
		spec corev1.PodSpec
		want string
	}{
		{"nothing", corev1.PodSpec{Containers: []corev1.Container{container(none, none)}}, "podu BestEffort shares=2 quota=0/0 memory=0 pids=7"},
		{"guaranteed", corev1.PodSpec{Containers: []corev1.Container{container(list("1", "1Gi"), list("1", "1Gi")), container(none, list("500m", "1Gi"))}},
			"podu Guaranteed shares=1024 quota=150000/100000 memory=2147483648 pids=7"},
		{"one without limits", corev1.PodSpec{Containers: []corev1.Container{container(list("100m", ""), list("1", "1Gi")), container(list("100m", ""), list("1", ""))}},
			"podu Burstable shares=204 quota=200000/100000 memory=0 pids=7"},
		{"init is the peak", corev1.PodSpec{InitContainers: []corev1.Container{container(list("2", "1Mi"), none)}, Containers: []corev1.Container{container(list("1", "1Mi"), none)}},
			"podu Burstable shares=2048 quota=0/0 memory=0 pids=7"},
		{"sidecar adds", corev1.PodSpec{InitContainers: []corev1.Container{sidecar}, Containers: []corev1.Container{container(list("300m", "10Mi"), list("300m", "10Mi"))}},
			"podu Guaranteed shares=512 quota=50000/100000 memory=20971520 pids=7"},
		{"pod level", corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: list("1", "5Mi"), Limits: list("2", "6Mi")}, Containers: []corev1.Container{container(none, none)}},
			"podu Burstable shares=1024 quota=200000/100000 memory=6291456 pids=7"},
		{"overhead", corev1.PodSpec{Overhead: list("500m", "1Mi"), Containers: []corev1.Container{container(list("500m", "1Mi"), list("500m", "1Mi"))}},
			"podu Guaranteed shares=1024 quota=100000/100000 memory=2097152 pids=7"},
		{"tiny limit", corev1.PodSpec{Containers: []corev1.Container{container(list("1m", "1Mi"), list("1m", "1Mi"))}},
			"podu Guaranteed shares=2 quota=1000/100000 memory=1048576 pids=7"},
	}
	for _, test := range tests {
		pod := &corev1.Pod{Spec: test.spec}
		pod.UID = "u"
		if got := ForPod(pod, 7).String(); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestForNode(t *testing.T) {
	l := list("3500m", "2Gi")
	l["hugepages-2Mi"], l["pods"] = resource.MustParse("8Mi"), resource.MustParse("110")
	want := Limits{CPUShares: 3584, Memory: 2 << 30, HugePages: map[string]int64{"2MB": 8 << 20}}
	if got := ForNode(l); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	l["pid"] = resource.MustParse("1000")
	if got := ForNode(l); got.PIDs != 1000 {
		t.Errorf("pids %d", got.PIDs)
	}
}

// The root of the tree holds all pods together, and its limits may be written again and again.
func TestEnsureRoot(t *testing.T) {
	tree := private(t)
	for _, memory := range []int64{1 << 30, 2 << 30, 1 << 30} {
		if err := tree.EnsureRoot(Limits{CPUShares: 1024, Memory: memory}); err != nil {
			t.Fatal(err)
		}
		if got := file(t, tree, "memory", tree.root, "memory.limit_in_bytes", "memory.max"); got != fmt.Sprint(memory) {
			t.Errorf("memory limit %s, want %d", got, memory)
		}
	}
	if _, err := tree.Ensure(Pod{UID: "p", QoS: Guaranteed}); err != nil {
		t.Fatal(err)
	}
	if got := file(t, tree, "memory", tree.root, "memory.limit_in_bytes", "memory.max"); got != fmt.Sprint(1<<30) {
		t.Errorf("a pod changed the limit of the root: %s", got)
	}
}

func TestHugePageNames(t *testing.T) {
	got := hugePages(corev1.ResourceList{"hugepages-2Mi": resource.MustParse("4Mi"), "hugepages-1Gi": resource.MustParse("1Gi")})
	if want := map[string]int64{"2MB": 4 << 20, "1GB": 1 << 30}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}
