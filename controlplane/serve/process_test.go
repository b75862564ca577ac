package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"nodelet/controlplane/upstream"
)

// configEnv makes this test binary a control plane: tests need processes of
// their own, to kill them.
const configEnv = "NODELET_TEST_SERVE"

func TestMain(m *testing.M) {
	conf := os.Getenv(configEnv)
	if conf == "" {
		os.Exit(m.Run())
	}
	if err := child(conf); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(conf string) error {
	var cfg Config
	if err := json.Unmarshal([]byte(conf), &cfg); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	upstream.RouteLogs(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return Run(ctx, cfg, Deps{Log: log, Now: time.Now, Ready: os.NewFile(3, "ready")})
}

// testConfig listens on a free loopback port; nobody reaches the advertised
// address, which upstream wants not to be loopback.
func testConfig(t *testing.T) Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	return Config{
		DataDir: filepath.Join(dir, "data"), NodeName: "n1", PIDFile: filepath.Join(dir, "pid"),
		AdvertiseAddress: netip.MustParseAddr("192.0.2.1"),
		BindAddresses:    []netip.Addr{netip.MustParseAddr("127.0.0.1")},
		Port:             uint16(l.Addr().(*net.TCPAddr).Port), KubeletPort: 10250,
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/12"), ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"),
		ClusterDomain: "cluster.local", DNSAddress: netip.MustParseAddr("10.96.0.10"),
	}
}

// process is a running control plane.
type process struct {
	cmd   *exec.Cmd
	ready chan error // nil: "ready" was read; else the pipe ended without it
	done  chan struct{}
	err   error

	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func begin(t *testing.T, cfg Config) *process {
	t.Helper()
	conf, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{ready: make(chan error, 1), done: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), configEnv+"="+string(conf))
	p.cmd.Stderr, p.cmd.ExtraFiles = p, []*os.File{w}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		data, err := io.ReadAll(r)
		r.Close()
		if err == nil && string(data) != "keys\nready\n" {
			err = fmt.Errorf("said %q on the ready pipe", data)
		}
		p.ready <- err
	}()
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.ready:
		if err != nil {
			p.kill()
			t.Fatalf("%v\n%s", err, p.output())
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("not ready in two minutes\n%s", p.output())
	}
}

// awaitEnd returns what the process said at its end.
func (p *process) awaitEnd(t *testing.T, within time.Duration) string {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.kill()
		t.Fatalf("did not end in %v\n%s", within, p.output())
	}
	return p.output()
}

func restConfig(t *testing.T, path string) *rest.Config {
	t.Helper()
	c, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	c.QPS = -1
	return c
}

func client(t *testing.T, path string) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(restConfig(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually repeats check until it returns nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond) // the API has no event for "somebody else is done"
	}
}
