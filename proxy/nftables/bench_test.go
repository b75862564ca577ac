package nftables

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// BenchmarkChange is one change of an EndpointSlice, from the store's snapshot
// to the kernel holding it. "replace" puts one endpoint in another's place,
// "scale" adds and removes one, which moves the frontend to another plan.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		for _, kind := range []string{"replace", "scale"} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				back, ctx := inNamespace(b), context.Background()
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
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			})
		}
	}
}

// BenchmarkColdSync writes everything into an empty kernel.
func BenchmarkColdSync(b *testing.B) {
	for _, c := range []struct{ services, endpoints int }{{1000, 2}, {10_000, 2}, {50_000, 5}} {
		b.Run(fmt.Sprintf("%dx%d", c.services, c.endpoints), func(b *testing.B) {
			back, ctx := inNamespace(b), context.Background()
			snap := lbtest.Many(c.services, c.endpoints).Snapshot()
			var used time.Duration
			for b.Loop() {
				before := cpu(b)
				if _, err := back.Apply(ctx, lb.Compile(config, snap)); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				used += cpu(b) - before
				if err := back.Cleanup(ctx); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(used.Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpu is what this process has used, in and for the kernel too: on a busy
// machine it says more than the time that passed.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRestart looks at a kernel that holds everything, and finds nothing to do.
func BenchmarkRestart(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			back, ctx := inNamespace(b), context.Background()
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
