package attach

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"nodelet/cni/ipam"
	"nodelet/internal/netns"
)

// BenchmarkAdd is an ADD without the exec around it.
func BenchmarkAdd(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("network namespaces need root")
	}
	node, err := netns.New()
	if err != nil {
		b.Fatal(err)
	}
	defer node.Close()
	n := Node{StateDir: b.TempDir(), MTU: 1400, Subnets: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}
	var took []time.Duration
	err = node.Do(func() error {
		for b.Loop() {
			b.StopTimer()
			pod, err := netns.New()
			if err != nil {
				return err
			}
			b.StartTimer()
			start := time.Now()
			lease, _, err := n.Add(context.Background(), pod, ipam.Lease{ContainerID: fmt.Sprint(len(took)), IfName: "eth0"})
			took = append(took, time.Since(start))
			b.StopTimer()
			if err != nil {
				return err
			}
			if err := n.Release(context.Background(), []ipam.Lease{lease}); err != nil {
				return err
			}
			_ = pod.Close()
			b.StartTimer()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[0].Microseconds()), "min-µs")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
}
