package stats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/internal/cgroup"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tree has usage by path.
type tree map[string]cgroup.Usage

func (t tree) Path(q cgroup.QoS, uid model.UID) string {
	return "/" + q.String() + "/pod" + uid.String()
}
func (t tree) Process(string) int              { return 0 }
func (t tree) Container(pod, id string) string { return pod + "/" + id }
func (t tree) Usage(path string, now time.Time) (cgroup.Usage, error) {
	u, ok := t[path]
	if !ok {
		return u, os.ErrNotExist
	}
	u.At = now
	return u, nil
}

func (t tree) WorkingSet(path string) (uint64, error) {
	u, err := t.Usage(path, time.Time{})
	return u.WorkingSet, err
}

// runtime answers from what it has; hang makes it wait.
type runtime struct {
	stats []*runtimev1.ContainerStats
	fs    *runtimev1.FilesystemUsage
	hang  chan struct{}
}

func (r *runtime) wait(ctx context.Context) error {
	if r.hang == nil {
		return nil
	}
	select {
	case <-r.hang:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *runtime) ListContainerStats(ctx context.Context, _ *runtimev1.ListContainerStatsRequest) (*runtimev1.ListContainerStatsResponse, error) {
	return &runtimev1.ListContainerStatsResponse{Stats: r.stats}, r.wait(ctx)
}

func (r *runtime) ImageFsInfo(ctx context.Context, _ *runtimev1.ImageFsInfoRequest) (*runtimev1.ImageFsInfoResponse, error) {
	if r.fs == nil {
		return nil, errors.Join(r.wait(ctx), errors.New("none"))
	}
	return &runtimev1.ImageFsInfoResponse{ImageFilesystems: []*runtimev1.FilesystemUsage{r.fs}}, r.wait(ctx)
}

func value(n uint64) *runtimev1.UInt64Value { return &runtimev1.UInt64Value{Value: n} }

// drivers know of one volume.
type drivers map[string]Space

func (d drivers) VolumeSpace(_ context.Context, path string) (*Space, bool) {
	sp, ok := d[filepath.Base(path)]
	return &sp, ok
}

// What a driver says of a volume goes before what its file system looks like.
func TestDriversAreAsked(t *testing.T) {
	dir := t.TempDir()
	f := newFigures(Deps{Drivers: drivers{"known": {Capacity: 7, Used: 3}}})
	if sp := f.askVolume(t.Context(), filepath.Join(dir, "known")); sp == nil || sp.Capacity != 7 || sp.Used != 3 {
		t.Errorf("%+v", sp)
	}
	if sp := f.askVolume(t.Context(), dir); sp == nil || sp.Capacity == 0 || sp.Capacity == 7 {
		t.Errorf("without a driver: %+v", sp)
	}
	if sp := f.askVolume(t.Context(), "/dev/null"); sp != nil {
		t.Errorf("a device: %+v", sp)
	}
}

// world is a pod with one container, an emptyDir and a claim.
func world(t *testing.T, rt *runtime, tr tree) (*Stats, string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"logs/ns_p_u/c", "empty/sub", "claim"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, size := range map[string]int{"logs/ns_p_u/c/0.log": 5000, "empty/a": 10_000, "empty/sub/b": 100_000, "claim/x": 1} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "empty/sub/b"), filepath.Join(dir, "empty/again")); err != nil {
		t.Fatal(err)
	}
	st, w := store.New()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}}
	pod.Spec.Containers = []corev1.Container{{Name: "c"}}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}},
		{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}},
	}
	w.Pods.Replace(map[model.UID]*corev1.Pod{"u": pod})
	w.Volumes.Replace(map[model.UID]*model.PodVolumes{"u": {UID: "u", HostPaths: map[string]string{
		"tmp": filepath.Join(dir, "empty"), "data": filepath.Join(dir, "claim"), "host": "/",
	}}})
	w.Runtime.Replace(map[model.UID]*model.PodRuntime{"u": {UID: "u", Sandboxes: []model.Sandbox{{ID: "s", Ready: true}}, Containers: []model.Container{
		{ID: "c1", Name: "c", State: model.ContainerRunning}, {ID: "c0", Name: "c", State: model.ContainerExited},
	}}})
	s := New(Config{KubeletRoot: dir, PodLogsRoot: filepath.Join(dir, "logs"), PodsCgroup: "/kubepods"},
		Deps{Store: st, Cgroups: tr, Runtime: rt, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, dir
}

func TestRead(t *testing.T) {
	rt := &runtime{
		stats: []*runtimev1.ContainerStats{{Attributes: &runtimev1.ContainerAttributes{Id: "c1"}, WritableLayer: &runtimev1.FilesystemUsage{UsedBytes: value(4096), InodesUsed: value(3)}}},
		fs:    &runtimev1.FilesystemUsage{FsId: &runtimev1.FilesystemIdentifier{Mountpoint: t.TempDir()}, UsedBytes: value(77)},
	}
	s, _ := world(t, rt, tree{"/": {CPU: 1}, "/BestEffort/podu": {Memory: 2}, "/BestEffort/podu/c1": {Memory: 1}, "/kubepods": {Memory: 3}})
	all := s.Read(t.Context(), Full)
	if all.Failed || all.Node.Usage == nil || all.Node.Memory == 0 || all.Node.MaxProcesses == 0 || all.Node.Processes == 0 || all.Node.Boot.IsZero() {
		t.Errorf("node %+v", all.Node)
	}
	if fs := all.Node.ImageFs; fs == nil || fs.Used != 77 || fs.Capacity == 0 || all.Node.ContainerFs == nil || all.Node.Fs == nil {
		t.Errorf("file systems %+v", all.Node)
	}
	if all.Node.System["pods"].Memory != 3 || all.Node.System["kubelet"] == nil || all.Node.System["kubelet"].Memory == 0 {
		t.Errorf("system %+v", all.Node.System)
	}
	if len(all.Pods) != 1 || len(all.Pods[0].Containers) != 1 {
		t.Fatalf("pods %+v", all.Pods)
	}
	p := all.Pods[0]
	c := p.Containers[0]
	if c.Usage.Memory != 1 || c.Rootfs == nil || c.Rootfs.Used != 4096 || c.Rootfs.Capacity == 0 || c.Logs.Used < 5000 || c.Logs.InodesUsed != 1 {
		t.Errorf("container %+v rootfs %+v logs %+v", c, c.Rootfs, c.Logs)
	}
	if len(p.Volumes) != 2 || p.Volumes[1].Claim != "claim" || p.Volumes[1].Local || p.Volumes[1].Space.Capacity == 0 {
		t.Fatalf("volumes %+v", p.Volumes)
	}
	// Two directories and two files, one of which has two names.
	if tmp := p.Volumes[0]; !tmp.Local || tmp.Space.InodesUsed != 4 || tmp.Space.Used < 110_000 || tmp.Space.Used > 190_000 {
		t.Errorf("emptyDir %+v", tmp)
	}
	if want := c.Rootfs.Used + c.Logs.Used + p.Volumes[0].Space.Used; p.Ephemeral == nil || p.Ephemeral.Used != want {
		t.Errorf("ephemeral %+v, want %d", p.Ephemeral, want)
	}
	if got := s.Claims(); len(got) != 1 || got[0].Namespace != "ns" || got[0].Claim != "claim" {
		t.Errorf("claims %+v", got)
	}
}

// What is asked for every second is a small part of what is measured.
func TestMemoryAlone(t *testing.T) {
	s, _ := world(t, &runtime{}, tree{"/": {CPU: 1, WorkingSet: 7}})
	n := s.Node(t.Context(), Memory)
	if n.Usage == nil || n.Usage.WorkingSet != 7 || n.Memory != s.Node(t.Context(), Cheap).Memory {
		t.Errorf("memory %+v", n)
	}
	if n.Usage.CPU != 0 || n.Processes != 0 || n.Fs != nil || !n.Boot.IsZero() {
		t.Errorf("more than memory was measured: %+v", n)
	}
}

// A container whose cgroup is elsewhere is asked of the runtime.
func TestUsageOfTheRuntime(t *testing.T) {
	rt := &runtime{stats: []*runtimev1.ContainerStats{{
		Attributes: &runtimev1.ContainerAttributes{Id: "c1"},
		Cpu:        &runtimev1.CpuUsage{UsageCoreNanoSeconds: value(5)}, Memory: &runtimev1.MemoryUsage{WorkingSetBytes: value(6)},
	}}}
	s, _ := world(t, rt, tree{"/": {}})
	all := s.Read(t.Context(), Cheap)
	if u := all.Pods[0].Containers[0].Usage; all.Failed || u == nil || u.CPU != 5 || u.WorkingSet != 6 {
		t.Errorf("%+v", all)
	}
	rt.stats = nil
	if all := s.Read(t.Context(), Cheap); !all.Failed {
		t.Error("nobody says that a container could not be measured")
	}
}

// A runtime that hangs leaves out what only it knows, and nothing else.
func TestRuntimeHangs(t *testing.T) {
	s, _ := world(t, &runtime{hang: make(chan struct{})}, tree{"/": {}, "/BestEffort/podu": {Memory: 2}, "/BestEffort/podu/c1": {Memory: 1}})
	all := s.Read(t.Context(), Full)
	p := all.Pods[0]
	if all.Failed || p.Containers[0].Rootfs != nil || p.Ephemeral != nil || all.Node.ImageFs != nil || p.Containers[0].Logs == nil || len(p.Volumes) != 2 {
		t.Errorf("%+v", p)
	}
}

// What lies behind a mount or outside is not counted; the walk ends when it is told to.
func TestWalk(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 * walkBatch {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	rests := 0
	got := walk(dir, func(time.Duration) bool { rests++; return true })
	if got == nil || got.InodesUsed != 3*walkBatch+2 || rests < 3 {
		t.Errorf("%+v after %d rests", got, rests)
	}
	if got := walk(dir, func(time.Duration) bool { return false }); got != nil {
		t.Errorf("a walk that was broken off gave %+v", got)
	}
	if got := walk(dir+"/none", func(time.Duration) bool { return true }); got != nil {
		t.Errorf("nothing gave %+v", got)
	}
}

func TestParseNetDev(t *testing.T) {
	got := parseNetDev(strings.Join([]string{
		"Inter-|   Receive                                                |  Transmit",
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed",
		"    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0",
		"  eth0:    1000      10    1    2    0     0          0         0     2000      20    3    4    0     0       0          0",
		"veth12ab:  1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
		"short: 1 2", "",
	}, "\n"))
	want := Interface{"eth0", 1000, 10, 1, 2, 2000, 20, 3, 4}
	if len(got) != 1 || got[0] != want {
		t.Errorf("%+v", got)
	}
}
