package nftables

import (
	"context"
	"os/exec"
	"testing"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbbench"
	"nodelet/proxy/lb/lbtest"
)

func open(t testing.TB) lbbench.Backend { return inNamespace(t) }

func BenchmarkChange(b *testing.B) {
	lbbench.Change(b, open, lbbench.Size{Services: 100, Endpoints: 2}, lbbench.Size{Services: 1000, Endpoints: 2}, lbbench.Size{Services: 10_000, Endpoints: 2})
}

func BenchmarkColdSync(b *testing.B) {
	lbbench.ColdSync(b, open, lbbench.Size{Services: 1000, Endpoints: 2}, lbbench.Size{Services: 10_000, Endpoints: 2}, lbbench.Size{Services: 50_000, Endpoints: 5})
}

func BenchmarkRestart(b *testing.B) {
	lbbench.Restart(b, open, lbbench.Size{Services: 1000, Endpoints: 2}, lbbench.Size{Services: 10_000, Endpoints: 2})
}

// BenchmarkRepair is what it takes to write everything again after a firewall
// was reloaded that flushes all tables, from the look at the kernel on.
func BenchmarkRepair(b *testing.B) {
	back, ctx := inNamespace(b), context.Background()
	s := lb.Compile(config, lbtest.Many(1000, 2).Snapshot())
	for b.Loop() {
		b.StopTimer()
		if _, err := back.Apply(ctx, s); err != nil {
			b.Fatal(err)
		}
		if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
			b.Fatalf("%v %s", err, out)
		}
		back.Forget()
		b.StartTimer()
		if r, err := back.Apply(ctx, s); err != nil || r.Messages == 0 {
			b.Fatalf("%+v, %v", r, err)
		}
	}
}
