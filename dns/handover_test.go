package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"nodelet/internal/fdstore"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// manager is a service manager with a store of descriptors, as systemd is one.
type manager struct {
	conn *net.UnixConn

	mu    sync.Mutex
	names []string
	files []*os.File
}

func newManager(t *testing.T) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		text, oob := make([]byte, 4096), make([]byte, 4096)
		for {
			n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
			if err != nil {
				return
			}
			m.store(string(text[:n]), oob[:oobn])
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
		for _, f := range m.files {
			f.Close()
		}
	})
	return m
}

func (m *manager) store(text string, oob []byte) {
	_, name, ok := strings.Cut(text, "FDSTORE=1\nFDNAME=")
	messages, err := unix.ParseSocketControlMessage(oob)
	if !ok || err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			m.names = append(m.names, name)
			m.files = append(m.files, os.NewFile(uintptr(fd), name))
		}
	}
}

// start runs this test program as a daemon, with what is in the store.
func (m *manager) start(t *testing.T, test string, addr netip.Addr) *exec.Cmd {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	// The shell becomes the daemon, so that LISTEN_PID is its own.
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$; exec "$0" "$@"`, os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), "DNS_TEST_DAEMON="+addr.String(), "NOTIFY_SOCKET="+m.conn.LocalAddr().String(),
		fmt.Sprintf("LISTEN_FDS=%d", len(m.files)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"))
	cmd.ExtraFiles = m.files
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// serveAsDaemon is the daemon of the test: it ends on SIGTERM.
func serveAsDaemon(t *testing.T, addr string) {
	c := DefaultConfig("cluster.local", netip.MustParseAddr(addr))
	c.Port, c.Link, c.ResolvConf, c.ResolvedConf = testPort, "", "/nonexistent", "/nonexistent"
	st, w := store.New()
	d, err := New(c, Deps{Store: st, Log: discard(), Holder: fdstore.Open()})
	if err != nil {
		t.Fatal(err)
	}
	svc := clusterIP("default/web", "10.96.0.5")
	go func() {
		time.Sleep(20 * time.Millisecond) // the API takes its time
		w.Services.Replace(map[model.Key]*model.Service{svc.Key: svc})
		w.Slices.Replace(nil)
	}()
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	if err := d.Run(ctx); err != nil {
		t.Error(err)
	}
}

// TestHotRestart restarts a daemon again and again under load: each query is
// asked once, and each is answered, rightly.
func TestHotRestart(t *testing.T) {
	if addr := os.Getenv("DNS_TEST_DAEMON"); addr != "" {
		serveAsDaemon(t, addr)
		return
	}
	restarts := 4
	if n := os.Getenv("DNS_TEST_RESTARTS"); n != "" {
		fmt.Sscan(n, &restarts)
	}
	m, addr := newManager(t), loopback()
	server := netip.AddrPortFrom(addr, testPort).String()
	daemon := m.start(t, t.Name(), addr)
	eventually(t, "the first daemon", func() bool {
		c := dns.Client{Timeout: 100 * time.Millisecond}
		r, _, err := c.Exchange(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), server)
		return err == nil && r.Rcode == dns.RcodeSuccess
	})
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var mu sync.Mutex
	asked, problems := 0, []string{}
	for range 4 {
		clients.Go(func() {
			c := dns.Client{Timeout: 5 * time.Second}
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, _, err := c.Exchange(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), server)
				mu.Lock()
				asked++
				if err != nil || r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 {
					problems = append(problems, fmt.Sprint(err, r))
				}
				mu.Unlock()
			}
		})
	}
	for range restarts {
		mu.Lock()
		before := asked
		mu.Unlock()
		eventually(t, "some load", func() bool { mu.Lock(); defer mu.Unlock(); return asked > before+200 })
		daemon.Process.Signal(syscall.SIGTERM)
		var exit *exec.ExitError
		if err := daemon.Wait(); errors.As(err, &exit) {
			t.Fatalf("the daemon ended with %v", err)
		}
		daemon = m.start(t, t.Name(), addr)
	}
	time.Sleep(100 * time.Millisecond) // load on the last one
	close(stop)
	clients.Wait()
	daemon.Process.Signal(syscall.SIGTERM)
	daemon.Wait()
	if len(problems) > 0 {
		t.Errorf("%d of %d queries over %d restarts had no right answer, such as: %s", len(problems), asked, restarts, problems[0])
	}
	t.Logf("%d queries over %d restarts", asked, restarts)
}
