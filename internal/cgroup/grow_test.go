package cgroup

import "testing"

func TestWider(t *testing.T) {
	have := Limits{CPUShares: 512, CPUQuota: 50_000, CPUPeriod: quotaPeriod, Memory: 100}
	for _, c := range []struct {
		name            string
		have, want, out Limits
	}{
		{"grows", have, Limits{CPUShares: 1024, CPUQuota: 80_000, CPUPeriod: quotaPeriod, Memory: 200}, Limits{CPUShares: 1024, CPUQuota: 80_000, CPUPeriod: quotaPeriod, Memory: 200}},
		{"does not shrink", have, Limits{CPUShares: 2, CPUQuota: 10_000, CPUPeriod: quotaPeriod, Memory: 50}, have},
		{"limits are lifted", have, Limits{CPUShares: 1024}, Limits{CPUShares: 1024}},
		{"new limits wait", Limits{CPUShares: 2}, Limits{CPUShares: 4, CPUQuota: 10_000, CPUPeriod: quotaPeriod, Memory: 50}, Limits{CPUShares: 4, CPUPeriod: quotaPeriod}},
	} {
		got := wider(c.have, c.want)
		if got.CPUShares != c.out.CPUShares || got.CPUQuota != c.out.CPUQuota || got.Memory != c.out.Memory {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.out)
		}
	}
}

// TestGrow on the kernel's own files.
func TestGrow(t *testing.T) {
	tree := private(t)
	pod := Pod{UID: "grow", QoS: Guaranteed, Limits: Limits{CPUShares: 512, CPUQuota: 50_000, CPUPeriod: quotaPeriod, Memory: 64 << 20}}
	if _, err := tree.Ensure(pod); err != nil {
		t.Fatal(err)
	}
	less := pod
	less.Limits = Limits{CPUShares: 256, CPUQuota: 80_000, CPUPeriod: quotaPeriod, Memory: 32 << 20}
	if err := tree.Grow(less); err != nil {
		t.Fatal(err)
	}
	if got := tree.limits(tree.Path(Guaranteed, "grow")); got.CPUQuota != 80_000 || got.Memory != 64<<20 {
		t.Errorf("after Grow: %+v", got)
	}
	if _, err := tree.Ensure(less); err != nil {
		t.Fatal(err)
	}
	if got := tree.limits(tree.Path(Guaranteed, "grow")); got.CPUQuota != 80_000 || got.Memory != 32<<20 {
		t.Errorf("after Ensure: %+v", got)
	}
}
