package ebpf

import (
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// TestDetectLeavesNothing: nothing that was tried is where it was tried.
func TestDetectLeavesNothing(t *testing.T) {
	b := alone(t)
	for _, noTCX := range []bool{false, true} {
		cfg := b.cfg
		cfg.NoTCX = noTCX
		if ipv6, err := Detect(t.Context(), cfg); err != nil || !ipv6 {
			t.Fatalf("IPv6 %t, %v", ipv6, err)
		}
	}
	dir := openDir(t, b.cfg.Cgroup)
	for _, h := range (&kernel{}).hooks() {
		found, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: h.at})
		if err != nil || len(found.Programs) > 0 {
			t.Errorf("at %s: %v, %v", h.name, found, err)
		}
	}
	if left, err := b.Residue(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("residue of a trial: %v, %v", left, err)
	}
}

// TestDetectOccupied: a cgroup whose hooks somebody else wants for himself
// cannot be used, and the trial says so, though the programs can be loaded.
func TestDetectOccupied(t *testing.T) {
	b := alone(t)
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet6Connect, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	place := link.RawAttachProgramOptions{
		Target: int(openDir(t, b.cfg.Cgroup).Fd()), Program: other, Attach: ebpf.AttachCGroupInet6Connect,
	}
	if err := link.RawAttachProgram(place); err != nil {
		t.Fatal(err)
	}
	_, err = Detect(t.Context(), b.cfg)
	if err == nil || !strings.Contains(err.Error(), "connect6") || !strings.Contains(err.Error(), b.cfg.Cgroup) {
		t.Errorf("a cgroup that is taken: %v", err)
	}
	if err := link.RawDetachProgram(link.RawDetachProgramOptions{Target: place.Target, Program: other, Attach: place.Attach}); err != nil {
		t.Fatal(err)
	}
	if _, err := Detect(t.Context(), b.cfg); err != nil {
		t.Errorf("after the other has gone: %v", err)
	}
}

func openDir(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
