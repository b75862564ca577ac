package lbbench

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
)

// Backend is what is measured: some of proxy.Backend.
type Backend interface {
	Apply(ctx context.Context, want *lb.State) (lb.Result, error)
	Forget()
	Cleanup(ctx context.Context) error
}

// Open makes a back end in a place of its own.
type Open func(testing.TB) Backend

// Size is how many Services there are, and how many endpoints each has.
type Size struct{ Services, Endpoints int }

// String is "10000x2".
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Services, s.Endpoints) }

var config = &lb.Config{NodeName: "n1", PodCIDRs: []netip.Prefix{
	netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/56"),
}}

// Change is one change of an EndpointSlice, from the store's snapshot to the
// kernel holding it. "replace" puts one endpoint in another's place, "scale"
// adds and removes one.
func Change(b *testing.B, open Open, sizes ...Size) {
	for _, size := range sizes {
		for _, kind := range []string{"replace", "scale"} {
			b.Run(kind+"/"+size.String(), func(b *testing.B) {
				back, ctx := open(b), context.Background()
				w := lbtest.Many(size.Services, size.Endpoints)
				s := lb.Compile(config, w.Snapshot())
				if _, err := back.Apply(ctx, s); err != nil {
					b.Fatal(err)
				}
				var took []time.Duration
				for i := 0; b.Loop(); i++ {
					endpoints := size.Endpoints
					if kind == "scale" {
						endpoints += i % 2
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

// ColdSync writes everything into an empty kernel.
func ColdSync(b *testing.B, open Open, sizes ...Size) {
	for _, size := range sizes {
		b.Run(size.String(), func(b *testing.B) {
			back, ctx := open(b), context.Background()
			snap := lbtest.Many(size.Services, size.Endpoints).Snapshot()
			var used time.Duration
			b.ReportAllocs()
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

// Restart looks at a kernel that holds everything, and finds nothing to do.
func Restart(b *testing.B, open Open, sizes ...Size) {
	for _, size := range sizes {
		b.Run(size.String(), func(b *testing.B) {
			back, ctx := open(b), context.Background()
			s := lb.Compile(config, lbtest.Many(size.Services, size.Endpoints).Snapshot())
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
