package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/bench/area"
)

// Ports of the back ends: one says who it is, the other takes what it is sent.
const (
	servePort = 8080
	sinkPort  = 8081
)

// backends are addresses on the far node; unrelated is one there that is no back end of anything.
var (
	backends  = []netip.Addr{netip.MustParseAddr("10.128.0.1"), netip.MustParseAddr("10.128.0.2")}
	unrelated = netip.MustParseAddr("10.128.0.9")
)

// serve makes the back ends on the far node, and the way there.
func serve(ctx context.Context, n *area.Node) error {
	var lines []string
	all := append(slices.Clone(backends), unrelated)
	for _, a := range all {
		lines = append(lines, fmt.Sprintf("ip addr add %s/32 dev lo", a))
	}
	if err := n.FarShell(strings.Join(lines, "\n")); err != nil {
		return err
	}
	// An address of a Service that is not in the kernel yet is refused at once by the far node.
	if err := errors.Join(n.FarShell("ip route add local 10.96.0.0/12 dev lo"), n.Shell("ip route add 10.128.0.0/16 via "+area.FarIP+
		"\nip route add 10.96.0.0/12 via "+area.FarIP+"\nsysctl -q -w net.ipv4.ip_forward=1")); err != nil {
		return err
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	for i, a := range all {
		for port, handle := range map[uint16]func(net.Conn){servePort: func(c net.Conn) { tell(c, byte(i)) }, sinkPort: drain} {
			err := n.Far(func() error {
				l, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(a, port).String())
				if err == nil {
					go accept(l, handle) // ends with the process
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("serve a back end: %w", err)
			}
		}
	}
	return nil
}

func accept(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go handle(c)
	}
}

// tell says which back end it is and waits for the client to close, which leaves no TIME_WAIT behind.
func tell(c net.Conn, id byte) {
	_, _ = c.Write([]byte{id})
	var b [1]byte
	_, _ = c.Read(b[:])
	_ = c.Close()
}

func drain(c net.Conn) {
	b := make([]byte, 256<<10)
	for {
		if _, err := c.Read(b); err != nil {
			_ = c.Close()
			return
		}
	}
}

// wait bounds one connection attempt.
const wait = 2 * time.Second

// dial connects by system calls alone, so that nothing of a library is measured. The time is connect()'s.
// A call that a signal of Go's scheduler has interrupted is made again on a new socket.
func dial(to netip.AddrPort) (fd int, took time.Duration, err error) {
	for range 10 {
		if fd, took, err = dialOnce(to); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, took, err
}

func dialOnce(to netip.AddrPort) (fd int, took time.Duration, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("make a socket: %w", err)
	}
	limit := unix.NsecToTimeval(wait.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), // close is a reset: no TIME_WAIT
	)
	sa := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	begin := time.Now()
	if err == nil {
		err = unix.Connect(fd, sa)
	}
	took = time.Since(begin)
	if err != nil {
		_ = unix.Close(fd)
		return -1, took, fmt.Errorf("connect to %s: %w", to, err)
	}
	return fd, took, nil
}

// who tells which back end answers.
func who(to netip.AddrPort) (int, error) {
	fd, _, err := dial(to)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	var b [1]byte
	n, err := unix.Read(fd, b[:])
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(fd, b[:])
	}
	switch {
	case err != nil:
		return -1, fmt.Errorf("read from %s: %w", to, err)
	case n != 1:
		return -1, fmt.Errorf("read from %s: it closes without a word", to)
	}
	return int(b[0]), nil
}

// until connects again and again until the back end answers that should.
func (m *turn) until(ctx context.Context, to netip.AddrPort, want int) error {
	runtime.LockOSThread() // it has the timer slack
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("ask for exact pauses: %w", err)
	}
	got, err := -1, error(nil)
	for deadline := time.Now().Add(limit); time.Now().Before(deadline) && ctx.Err() == nil; nap() {
		if m.process.Ended() {
			return errors.New("it has ended by itself")
		}
		if got, err = who(to); err == nil && got == want {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("%s: back end %d does not answer within %s (%d does)", to, want, limit, got), err, ctx.Err())
}

// nap is the pause between two looks. time.Sleep takes a millisecond for it: the runtime waits for its
// timers in the poller, whose unit that is when nothing else runs.
func nap() {
	t := unix.NsecToTimespec((100 * time.Microsecond).Nanoseconds())
	_ = unix.Nanosleep(&t, nil) // a signal may end it early
}

// latency is the time of connect() in microseconds, of many.
func latency(to netip.AddrPort, count int) ([]float64, error) {
	out := make([]float64, 0, count)
	for range count {
		fd, took, err := dial(to)
		if err != nil {
			return nil, err
		}
		_ = unix.Close(fd)
		out = append(out, float64(took.Nanoseconds())/1000)
	}
	return out, nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// lostLimit is how many of the connections of one rate may get no answer: a few are lost where a
// client's port comes again while the node still remembers its last connection.
const lostLimit = 5

// rate is how many connections a second two clients make, with an answer on each.
func rate(do func(func() error) error, to netip.AddrPort, over time.Duration) (float64, error) {
	var count atomic.Int64
	errs := make([]error, 2)
	var wg sync.WaitGroup
	end := time.Now().Add(over)
	for i := range errs {
		wg.Go(func() {
			errs[i] = do(func() error {
				lost := 0
				for time.Now().Before(end) {
					_, err := who(to)
					if err == nil {
						count.Add(1)
					} else if lost++; lost > lostLimit {
						return err
					}
				}
				return nil
			})
		})
	}
	wg.Wait()
	return float64(count.Load()) / over.Seconds(), errors.Join(errs...)
}

// flow is the throughput of one connection in Gbit/s.
func flow(do func(func() error) error, to netip.AddrPort, over time.Duration) (float64, error) {
	var sent int
	err := do(func() error {
		fd, _, err := dial(to)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		b := make([]byte, 256<<10)
		for end := time.Now().Add(over); time.Now().Before(end); {
			n, err := unix.Write(fd, b)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return fmt.Errorf("send to %s: %w", to, err)
			}
			sent += n
		}
		return nil
	})
	return float64(sent) * 8 / over.Seconds() / 1e9, err
}
