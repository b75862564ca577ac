package ebpf

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"nodelet/internal/netns"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// alone makes a back end in a namespace and a cgroup of its own.
func alone(t testing.TB) *Backend {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: loads eBPF programs")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	box, err := NewSandbox()
	if err != nil {
		t.Skip(err)
	}
	b, err := New(box.Config(ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, err := range []error{b.Cleanup(context.Background()), ns.Close(), box.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return b
}

// BenchmarkChange is one change of an EndpointSlice, from the store's snapshot
// to the kernel holding it.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		for _, kind := range []string{"replace", "scale"} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				back, ctx := alone(b), context.Background()
				w := lbtest.Many(n, 2)
				s := lb.Compile(config, w.Snapshot())
				if _, err := back.Apply(ctx, s); err != nil {
					b.Fatal(err)
				}
				var took []time.Duration
				for i := 0; b.Loop(); i++ {
					endpoints := 2
					if kind == "scale" {
						endpoints = 2 + i%2
					}
					w.Flip(i%7, endpoints)
					begin := time.Now()
					s = lb.Advance(s, w.Snapshot())
					if r, err := back.Apply(ctx, s); err != nil || r.Full {
						b.Fatal(r, err)
					}
					took = append(took, time.Since(begin))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
			})
		}
	}
}

// BenchmarkColdSync writes everything into empty maps.
func BenchmarkColdSync(b *testing.B) {
	for _, c := range []struct{ services, endpoints int }{{1000, 2}, {10_000, 2}} {
		b.Run(fmt.Sprintf("%dx%d", c.services, c.endpoints), func(b *testing.B) {
			back, ctx := alone(b), context.Background()
			snap := lbtest.Many(c.services, c.endpoints).Snapshot()
			for b.Loop() {
				if _, err := back.Apply(ctx, lb.Compile(config, snap)); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := back.Cleanup(ctx); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkRestart looks at maps that hold everything, and finds nothing to do.
func BenchmarkRestart(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			back, ctx := alone(b), context.Background()
			s := lb.Compile(config, lbtest.Many(n, 2).Snapshot())
			if _, err := back.Apply(ctx, s); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				back.Forget()
				if r, err := back.Apply(ctx, s); err != nil || r.Messages > 0 {
					b.Fatal(r, err)
				}
			}
		})
	}
}
