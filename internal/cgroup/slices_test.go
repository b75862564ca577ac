package cgroup

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nodelet/internal/model"
)

// systemd keeps slices as directories of a made-up tree, as the true one does.
type systemd struct {
	mount  string
	slices map[string]map[string]any
	err    error
}

// dir is where systemd nests a slice: by the dashes of its name.
func (s *systemd) dir(slice string) string {
	dir, name := s.mount, ""
	for part := range strings.SplitSeq(strings.TrimSuffix(slice, ".slice"), "-") {
		name = strings.TrimPrefix(name+"-"+part, "-")
		dir = filepath.Join(dir, name+".slice")
	}
	return dir
}

// Start makes the directory.
func (s *systemd) Start(slice string, limits map[string]any) error {
	if s.err != nil {
		return s.err
	}
	s.slices[slice] = limits
	return os.MkdirAll(s.dir(slice), 0o755)
}

// Limit notes the limits of a unit that is there.
func (s *systemd) Limit(unit string, limits map[string]any) error {
	if _, err := os.Stat(s.dir(unit)); err != nil {
		return err
	}
	s.slices[unit] = limits
	return nil
}

// Stop removes it.
func (s *systemd) Stop(slice string) error {
	delete(s.slices, slice)
	return os.RemoveAll(s.dir(slice))
}

func (s *systemd) names() string { return strings.Join(slices.Sorted(maps.Keys(s.slices)), " ") }

func withSystemd(t *testing.T, root string) (*Tree, *systemd) {
	plain := fakeV2(t)
	s := &systemd{mount: plain.h.unified, slices: map[string]map[string]any{}}
	tree := &Tree{names: strings.Split(root, "/"), units: s, h: plain.h, log: slog.New(slog.DiscardHandler), warned: map[string]bool{}}
	tree.root = tree.at()
	return tree, s
}

// TestSlicePaths: names and places are upstream's.
func TestSlicePaths(t *testing.T) {
	tree, _ := withSystemd(t, "kubepods")
	const uid = "0b2b4e1e-1111-2222-3333-444455556666"
	for q, want := range map[QoS]string{
		Guaranteed: "/kubepods.slice/kubepods-pod0b2b4e1e_1111_2222_3333_444455556666.slice",
		Burstable:  "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0b2b4e1e_1111_2222_3333_444455556666.slice",
		BestEffort: "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0b2b4e1e_1111_2222_3333_444455556666.slice",
	} {
		got := tree.Path(q, uid)
		if got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
		if back, ok := tree.podOf(q, path.Base(got)); !ok || back != uid {
			t.Errorf("%s is of pod %q %t", got, back, ok)
		}
	}
	for _, other := range []string{"kubepods-burstable.slice", "kubepods-pod.slice", "kubepods-podx", "user.slice", "podx"} {
		if uid, ok := tree.podOf(Guaranteed, other); ok {
			t.Errorf("%s is taken for pod %q", other, uid)
		}
	}
	below, _ := withSystemd(t, "my-node/kubepods")
	if got, want := below.Path(Guaranteed, "u"), "/my_node.slice/my_node-kubepods.slice/my_node-kubepods-podu.slice"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestSlices: a pod's slice comes and goes with its limits, what is listed is what is there, and a
// restarted daemon finds all of it.
func TestSlices(t *testing.T) {
	tree, s := withSystemd(t, "kubepods")
	if err := tree.EnsureRoot(Limits{CPUShares: 2048, Memory: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	pod := Pod{UID: "a-b", QoS: Burstable, Limits: Limits{CPUShares: 512, CPUQuota: 12_300, CPUPeriod: quotaPeriod, Memory: 1 << 20, PIDs: 100}}
	if _, err := tree.Ensure(pod); err != nil {
		t.Fatal(err)
	}
	if got, want := s.names(), "kubepods-besteffort.slice kubepods-burstable-poda_b.slice kubepods-burstable.slice kubepods.slice"; got != want {
		t.Errorf("slices %s, want %s", got, want)
	}
	// The quota of 12.3 % is rounded up to 13 %.
	want := map[string]any{"MemoryMax": uint64(1 << 20), "TasksMax": uint64(100), "CPUWeight": uint64(20), "CPUQuotaPerSecUSec": uint64(130_000), "CPUQuotaPeriodUSec": uint64(100_000)}
	if got := s.slices["kubepods-burstable-poda_b.slice"]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("limits %v, want %v", got, want)
	}
	if got := tree.Pods(); !slices.Equal(got, []model.UID{"a-b"}) {
		t.Errorf("pods %v", got)
	}
	scope := path.Join(tree.Path(Burstable, "a-b"), "crio-0123.scope")
	if err := os.MkdirAll(filepath.Join(s.mount, scope), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := tree.Container(tree.Path(Burstable, "a-b"), "0123"); got != scope {
		t.Errorf("container %s", got)
	}
	if got := tree.Container(tree.Path(Burstable, "a-b"), "45"); path.Base(got) != "cri-containerd-45.scope" {
		t.Errorf("container %s", got)
	}
	if err := tree.Remove("a-b"); err != nil {
		t.Fatal(err)
	}
	if got := s.names(); strings.Contains(got, "poda_b") || len(tree.Pods()) > 0 {
		t.Errorf("slices %s, pods %v", got, tree.Pods())
	}
	if _, err := tree.Ensure(pod); err != nil {
		t.Fatal(err)
	}
	if err := tree.Cleanup(); err != nil || s.names() != "" || len(tree.Residue()) > 0 {
		t.Errorf("%v, left %q %v", err, s.names(), tree.Residue())
	}
	s.err = os.ErrPermission
	if _, err := tree.Ensure(pod); err == nil {
		t.Error("systemd refuses, and nobody says so")
	}
}

// A limit of zero lifts what was there.
func TestUnitLimits(t *testing.T) {
	none := uint64(math.MaxUint64)
	for name, test := range map[string]struct {
		limits Limits
		v2     bool
		want   map[string]any
	}{
		"v2 nothing": {Limits{}, true, map[string]any{"TasksMax": none, "CPUQuotaPerSecUSec": none, "MemoryMax": none}},
		"v1 nothing": {Limits{}, false, map[string]any{"TasksMax": none, "CPUQuotaPerSecUSec": none, "MemoryLimit": none}},
		"v1": {Limits{CPUShares: 2, CPUQuota: 200_000, CPUPeriod: 100_000, Memory: 5}, false, map[string]any{
			"TasksMax": none, "CPUQuotaPerSecUSec": uint64(2_000_000), "CPUQuotaPeriodUSec": uint64(100_000), "MemoryLimit": uint64(5), "CPUShares": uint64(2)}},
	} {
		if got := unitLimits(test.limits, test.v2); fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	if got := (Limits{CPUQuota: 12_300, CPUPeriod: 100_000}).rounded().CPUQuota; got != 13_000 {
		t.Errorf("rounded to %d", got)
	}
}
