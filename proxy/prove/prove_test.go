package prove

import (
	"context"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

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
	if rep := run(t, Options{Seed: 1, Cases: cases}, Simulated()); rep.Failed != nil {
		t.Error(rep.Failed)
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
