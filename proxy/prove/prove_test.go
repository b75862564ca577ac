package prove

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"nodelet/internal/xtables"
	"nodelet/proxy/lb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cases is how many make test runs; nightly runs say `nodelet prove backends --cases 5000`.
const cases = 200

func run(t *testing.T, o Options, s Subject) Report {
	t.Helper()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	rep, err := Run(context.Background(), o, s)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestSimulated(t *testing.T) {
	for _, s := range []Subject{Simulated(), SimulatedIptables()} {
		if rep := run(t, Options{Seed: 1, Cases: cases}, s); rep.Failed != nil {
			t.Error(rep.Failed)
		}
	}
}

// TestIptables: each variant as the kernel holds it, and with real packets.
// Programs that run for each case cost more, so there are fewer of them.
func TestIptables(t *testing.T) {
	needRoot(t)
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	for _, v := range []xtables.Variant{xtables.Legacy, xtables.NFT} {
		held, err := HeldIptables(v)
		if errors.Is(err, xtables.ErrNotInstalled) {
			t.Logf("%s: %v", v, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if rep := run(t, Options{Seed: 3, Cases: cases / 8}, held); rep.Failed != nil {
			t.Error(rep.Failed)
		}
		packets, err := PacketsIptables(v)
		if err != nil {
			t.Fatal(err)
		}
		if rep := run(t, Options{Seed: 4, Cases: cases / 8}, packets); rep.Failed != nil {
			t.Error(rep.Failed)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
}

func TestHeld(t *testing.T) {
	needRoot(t)
	h, err := HeldNftables()
	if err != nil {
		t.Fatal(err)
	}
	if rep := run(t, Options{Seed: 1, Cases: cases}, h); rep.Failed != nil {
		t.Error(rep.Failed)
	}
}

// TestPackets: real packets cost more, so there are fewer cases of them.
func TestPackets(t *testing.T) {
	needRoot(t)
	p, err := PacketsNftables()
	if err != nil {
		t.Fatal(err)
	}
	if rep := run(t, Options{Seed: 2, Cases: cases / 4}, p); rep.Failed != nil {
		t.Error(rep.Failed)
	}
}

// TestIPVS runs where the kernel has it: in the machines of make test-vm.
func TestIPVS(t *testing.T) {
	needRoot(t)
	held, err := HeldIPVS()
	if err != nil {
		t.Skipf("%v (make test-vm RUN=proxy/prove runs it elsewhere)", err)
	}
	if rep := run(t, Options{Seed: 5, Cases: cases / 4}, held); rep.Failed != nil {
		t.Error(rep.Failed)
	}
	packets, err := PacketsIPVS()
	if err != nil {
		t.Fatal(err)
	}
	if rep := run(t, Options{Seed: 6, Cases: cases / 8}, packets); rep.Failed != nil {
		t.Error(rep.Failed)
	}
}

// liar does something else than the meaning says, in a way that only shows
// with one kind of Service.
type liar struct{ Subject }

func (l liar) Disagree(ctx context.Context, s *lb.State, packets []string) (string, error) {
	for _, text := range packets {
		p, _, err := packet(text)
		if err != nil {
			return "", err
		}
		if t, ok := s.Lookup(lb.Frontend{Addr: p.Dst.Addr(), Proto: p.Proto, Port: p.Dst.Port()}); ok && t.Affinity > 0 && strings.HasPrefix(text, "a ->") {
			return text + ": no affinity", nil
		}
	}
	return "", nil
}

// TestMinimise: a disagreement is printed as the smallest case that has it.
func TestMinimise(t *testing.T) {
	rep := run(t, Options{Seed: 7, Cases: 1000}, liar{Simulated()})
	if rep.Failed == nil {
		t.Fatal("no disagreement found")
	}
	c := rep.Failed.Case
	if len(c.World) != 1 || len(c.Packets) != 1 || !strings.Contains(c.World[0], "affinity") || !strings.Contains(rep.Failed.String(), "no affinity") {
		t.Errorf("not small: %s", rep.Failed)
	}
}
