package ebpf_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	back "nodelet/proxy/ebpf"
	"nodelet/proxy/lb"
	"nodelet/proxy/lb/lbtest"
	"nodelet/proxy/proxytest"
)

// BenchmarkConnect is what the programs take for a connection of the node, by the kernel's own
// statistics, with 10,000 Services: to one of them, and to an address that is nobody's. Between two
// connections other memory is read, as if the machine did something else (cold).
func BenchmarkConnect(b *testing.B) {
	l := proxytest.NewLab(b)
	box, err := back.NewSandbox()
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() {
		if err := box.Close(); err != nil {
			b.Error(err)
		}
	})
	n, err := back.New(box.Config(l.Node.NS.Fd()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := n.Cleanup(context.Background()); err != nil {
			b.Error(err)
		}
	})
	w := lbtest.Many(10_000, 2)
	if err := w.Apply("node n1 192.168.7.1 fd07::1\ncidr x 10.96.0.0/12\n" +
		"service d/x ClusterIP 10.96.200.1 p:80/TCP\nslice d/x-4 of d/x p:8080/TCP 10.244.1.2=ready@n1\n"); err != nil {
		b.Fatal(err)
	}
	if _, err := n.Apply(b.Context(), lb.Compile(meaning, w.Snapshot())); err != nil {
		b.Fatal(err)
	}
	for _, host := range []string{"a", "b"} {
		b.Cleanup(l.Serve(l.Host(host), 8080))
	}
	stats, err := ebpf.EnableStats(0) // BPF_STATS_RUN_TIME
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { _ = stats.Close() })
	programs := back.Programs(n)
	trash := make([]byte, 8<<20)
	for _, c := range [][2]string{{"unrelated", "10.244.1.3:8080"}, {"endpoint", "10.244.1.2:8080"}, {"service", "10.96.200.1:80"}} {
		name, to := c[0], c[1]
		for _, cold := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/cold=%t", name, cold), func(b *testing.B) {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				err := l.Node.NS.Do(func() error {
					return box.Within(func() error { return connects(b, to, trash, cold, programs) })
				})
				if err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// connects makes connections in blocks, and gives the 10th percentile of what the programs took in one: on a
// busy machine the mean says what else was running.
func connects(b *testing.B, to string, trash []byte, cold bool, programs map[string]*ebpf.Program) error {
	const block = 20
	at := netip.MustParseAddrPort(to)
	sa := &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	took := map[string][]float64{}
	before := map[string]*ebpf.ProgramStats{}
	for i := range b.N {
		if cold {
			for i := 0; i < len(trash); i += 64 {
				trash[i]++
			}
		}
		if err := connect(sa); err != nil {
			return err
		}
		if i%block != 0 {
			continue
		}
		for name, p := range programs {
			s, err := p.Stats()
			if err != nil {
				return err
			}
			if old := before[name]; old != nil && s.RunCount > old.RunCount {
				took[name] = append(took[name], float64((s.Runtime-old.Runtime).Nanoseconds())/float64(s.RunCount-old.RunCount))
			}
			before[name] = s
		}
	}
	for name, all := range took {
		slices.Sort(all)
		b.ReportMetric(all[len(all)/10], name+"-ns")
	}
	return nil
}

func connect(to unix.Sockaddr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	// Closed by a reset: no TIME_WAIT is left.
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	return errors.Join(err, unix.Connect(fd, to), unix.Close(fd))
}
