package cni

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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

	"go.uber.org/goleak"

	"nodelet/cni/cnitest"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// bin is the directory of the real plugin.
var bin string

// daemonEnv makes this test binary be the feature alone, in the namespace it
// is started in: the configuration is in the variable, lists of nodes come on
// standard input, the log goes to standard error.
const daemonEnv = "NODELET_TEST_CNI_DAEMON"

func TestMain(m *testing.M) {
	if text := os.Getenv(daemonEnv); text != "" {
		if err := beDaemon(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "nodelet-cni-test")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		bin = dir
		if err := cnitest.BuildPlugin(bin, ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func beDaemon(text string) error {
	var cfg Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	st, writers := store.New()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			var nodes []*model.Node
			if err := json.Unmarshal(lines.Bytes(), &nodes); err != nil {
				panic(err)
			}
			all := map[model.Key]*model.Node{}
			for _, n := range nodes {
				all[model.Key{Name: n.Name}] = n
			}
			writers.Nodes.Replace(all)
		}
	}()
	notOurs := goleak.IgnoreCurrent()
	feature, err := New(cfg, Deps{Store: st, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	if err := feature.Run(ctx); err != nil {
		return err
	}
	return goleak.Find(notOurs)
}

// daemon is the feature running in a node's namespace.
type daemon struct {
	t     *testing.T
	cfg   Config
	cmd   *exec.Cmd
	stdin io.WriteCloser
	log   *syncBuffer
	// kill ends the process without giving it a chance.
	kill func()
}

func config(lab *cnitest.Lab, n *cnitest.Node) Config {
	return Config{
		NodeName: n.Name, NodeIPs: []netip.Addr{n.IP, n.IP6},
		ConfDir: filepath.Join(lab.Dir, n.Name, "net.d"), StateDir: n.Config.StateDir,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
	}
}

func start(t *testing.T, lab *cnitest.Lab, n *cnitest.Node) *daemon {
	t.Helper()
	d := &daemon{t: t, cfg: config(lab, n), log: &syncBuffer{}}
	text, err := json.Marshal(d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(os.Args[0])
	d.cmd.Env = append(os.Environ(), daemonEnv+"="+string(text))
	d.cmd.Stderr = d.log
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	n.Do(d.cmd.Start)
	end := func(s os.Signal) func() {
		return sync.OnceFunc(func() { _ = d.cmd.Process.Signal(s); _ = d.cmd.Wait() })
	}
	d.kill = end(syscall.SIGKILL)
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("daemon on %s:\n%s", n.Name, d.log)
		}
	})
	return d
}

// tell gives the daemon the list of nodes.
func (d *daemon) tell(nodes ...*model.Node) {
	d.t.Helper()
	text, err := json.Marshal(nodes)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.stdin.Write(append(text, '\n')); err != nil {
		d.t.Fatal(err)
	}
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, yes func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for time.Since(start) < 20*time.Second {
		if yes() {
			return time.Since(start)
		}
		time.Sleep(5 * time.Millisecond) // between two looks at the kernel, which sends no event for all of this
	}
	t.Fatalf("never: %s", what)
	return 0
}

// ready waits for the runtime's configuration and lets the node's pods use it.
func (d *daemon) ready(n *cnitest.Node) {
	d.t.Helper()
	eventually(d.t, "configuration for the runtime", func() bool {
		text, err := os.ReadFile(d.cfg.ConfListPath())
		if err != nil {
			return false
		}
		var list struct{ Plugins []json.RawMessage }
		if err := json.Unmarshal(text, &list); err != nil {
			d.t.Fatal(err)
		}
		subnets := n.Config.Subnets
		if err := json.Unmarshal(list.Plugins[0], &n.Config); err != nil {
			d.t.Fatal(err)
		}
		return len(subnets) == 0 || fmt.Sprint(subnets) == fmt.Sprint(n.Config.Subnets)
	})
}

func apiNode(n *cnitest.Node, cidrs ...string) *model.Node {
	out := &model.Node{Name: n.Name, InternalIPs: []netip.Addr{n.IP, n.IP6}}
	for _, c := range cidrs {
		out.PodCIDRs = append(out.PodCIDRs, netip.MustParsePrefix(c))
	}
	return out
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *syncBuffer) has(text string) bool { return strings.Contains(s.String(), text) }
