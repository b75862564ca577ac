package prove

import (
	"context"
	"testing"

	"nodelet/internal/xtables"
)

// TestSCTP: SCTP ports mean what the others do, beside a TCP port of the same number. This kernel may
// have no SCTP sockets, so the rules are followed. Mode ebpf refuses SCTP and says so (docs/proxy-ebpf.md).
func TestSCTP(t *testing.T) {
	needRoot(t)
	t.Setenv("XTABLES_LOCKFILE", t.TempDir()+"/lock")
	c := Case{
		World: []string{
			"service d/a LoadBalancer 10.96.0.1,fd96::1 s:80/SCTP[30000] t:80/TCP[30000] lb=1.2.3.1 extip=5.6.7.1 affinity=1h",
			"service d/b ClusterIP 10.96.0.2,fd96::2 s:80/SCTP",
			"slice d/a-4 of d/a s:3868/SCTP t:8080/TCP 10.244.1.2=ready@n1 10.244.2.2=ready@n2",
			"slice d/a-6 of d/a s:3868/SCTP t:8080/TCP fd44:1::2=ready@n1",
		},
		Packets: []string{
			"a -> 10.96.0.1:80/SCTP", "outside -> 10.96.0.1:80/SCTP", "b -> 10.96.0.1:80/TCP", "b -> [fd96::1]:80/SCTP",
			"outside -> 192.168.7.1:30000/SCTP", "node -> 1.2.3.1:80/SCTP", "outside -> 5.6.7.1:80/SCTP",
			"a -> 10.96.0.2:80/SCTP", "a -> [fd96::2]:80/SCTP",
		},
	}
	state, err := c.State()
	if err != nil {
		t.Fatal(err)
	}
	for _, open := range []func() (Subject, error){
		func() (Subject, error) { return Simulated(), nil },
		func() (Subject, error) { return SimulatedIptables(), nil },
		func() (Subject, error) { return HeldNftables() },
		func() (Subject, error) { return HeldIptables(xtables.Legacy) },
		func() (Subject, error) { return HeldIptables(xtables.NFT) },
	} {
		s, err := open()
		if err != nil {
			t.Log(err)
			continue
		}
		if what, err := s.Disagree(context.Background(), state, c.Packets); err != nil || what != "" {
			t.Errorf("%s: %s %v", s.Name(), what, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
