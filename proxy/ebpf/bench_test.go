package ebpf

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"

	"nodelet/internal/netns"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbbench"
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

func open(t testing.TB) lbbench.Backend { return alone(t) }

func BenchmarkChange(b *testing.B) {
	lbbench.Change(b, open, lbbench.Size{Services: 10, Endpoints: 2}, lbbench.Size{Services: 1000, Endpoints: 2}, lbbench.Size{Services: 10_000, Endpoints: 2})
}

func BenchmarkColdSync(b *testing.B) {
	lbbench.ColdSync(b, open, lbbench.Size{Services: 1000, Endpoints: 2}, lbbench.Size{Services: 10_000, Endpoints: 2})
}

// BenchmarkColdSyncOpened is the part that has to wait for the API: Run opens
// maps and programs before.
func BenchmarkColdSyncOpened(b *testing.B) {
	for _, services := range []int{1000, 10_000} {
		s := lb.Compile(config, lbtest.Many(services, 2).Snapshot())
		b.Run(strconv.Itoa(services)+"x2", func(b *testing.B) {
			back := alone(b)
			for b.Loop() {
				b.StopTimer()
				if err := errors.Join(back.Cleanup(b.Context()), back.open()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if _, err := back.Apply(b.Context(), s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRestart(b *testing.B) {
	lbbench.Restart(b, open, lbbench.Size{Services: 1000, Endpoints: 2}, lbbench.Size{Services: 10_000, Endpoints: 2})
}

// BenchmarkUntouched is the look at the kernel that every resync takes.
func BenchmarkUntouched(b *testing.B) {
	for _, services := range []int{1000, 10_000} {
		s := lb.Compile(config, lbtest.Many(services, 2).Snapshot())
		b.Run(strconv.Itoa(services)+"x2", func(b *testing.B) {
			back := alone(b)
			if _, err := back.Apply(b.Context(), s); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if !back.Untouched(b.Context()) {
					b.Fatal("touched")
				}
			}
		})
	}
}
