package prove

import "testing"

func TestSimulatedEBPF(t *testing.T) {
	if rep := run(t, Options{Seed: 1, Cases: cases}, SimulatedEBPF()); rep.Failed != nil {
		t.Error(rep.Failed)
	}
}

func TestHeldEBPF(t *testing.T) {
	needRoot(t)
	h, err := HeldEBPF()
	if err != nil {
		t.Fatal(err)
	}
	if rep := run(t, Options{Seed: 1, Cases: cases}, h); rep.Failed != nil {
		t.Error(rep.Failed)
	}
}

func TestPacketsEBPF(t *testing.T) {
	needRoot(t)
	p, err := PacketsEBPF()
	if err != nil {
		t.Fatal(err)
	}
	if rep := run(t, Options{Seed: 2, Cases: cases / 4}, p); rep.Failed != nil {
		t.Error(rep.Failed)
	}
}
