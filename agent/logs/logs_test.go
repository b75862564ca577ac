package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/server/crilog"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const stamped = "2026-01-02T03:04:05.123456789Z"

// container is a container whose log is written as containerd writes it: into the file that was open
// until Reopen has opened a new one, and a little longer.
type container struct {
	t    *testing.T
	path string
	// refuse makes the next so many Reopen fail; hang makes them wait.
	refuse, reopened int
	hang             chan struct{}

	mu   sync.Mutex
	file *os.File
	n    int
}

func newContainer(t *testing.T, path string) *container {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	c := &container{t: t, path: path}
	c.open()
	t.Cleanup(func() { c.file.Close() })
	return c
}

func (c *container) open() {
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		c.t.Error(err)
		return
	}
	c.file = f
}

// write writes one numbered line of about so many bytes.
func (c *container) write(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := fmt.Fprintf(c.file, "%s stdout F %d %s\n", stamped, c.n, strings.Repeat(".", size)); err != nil {
		c.t.Error(err)
	}
	c.n++
}

func (c *container) ReopenContainerLog(ctx context.Context, _ *runtimev1.ReopenContainerLogRequest) (*runtimev1.ReopenContainerLogResponse, error) {
	if c.hang != nil {
		select {
		case <-c.hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.mu.Lock()
	old := c.file
	if c.refuse > 0 {
		c.refuse--
		c.mu.Unlock()
		return nil, errors.New("refused")
	}
	c.reopened++
	next, err := os.OpenFile(c.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for range 3 { // the new file is there, and the old one is still written
		c.write(10)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.file = next
	return &runtimev1.ReopenContainerLogResponse{}, old.Close()
}

// node is a store with containers that run, and a Rotator over them.
type node struct {
	*testing.T
	root  string
	store *store.Store
	w     *store.Writers
	r     *Rotator
}

func newNode(t *testing.T, rt Runtime, cfg Config) *node {
	t.Helper()
	n := &node{T: t, root: cfg.PodLogsRoot}
	n.store, n.w = store.New()
	r, err := New(cfg, Deps{Store: n.store, Runtime: rt, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	n.r = r
	return n
}

func (n *node) running(id, path string) {
	n.w.Runtime.Commit(func(tx *store.Tx[model.UID, *model.PodRuntime]) {
		tx.Synced()
		tx.Set(model.UID(id), &model.PodRuntime{UID: model.UID(id), Containers: []model.Container{{ID: id, State: model.ContainerRunning, LogPath: path}}})
	})
}

// start runs the rotator until the returned function is called.
func (n *node) start() func() {
	ctx, cancel := context.WithCancel(n.Context())
	done := make(chan error, 1)
	go func() { done <- n.r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			n.Error(err)
		}
	}
}

// logs are the files of a log with their content, oldest first.
func logs(t *testing.T, path string) (names []string, content string) {
	t.Helper()
	all, err := filepath.Glob(path + ".*")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	if _, err := os.Stat(path); err == nil {
		all = append(all, path)
	}
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".gz") {
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if b, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		names = append(names, filepath.Base(name))
		content += string(b)
	}
	return names, content
}

// numbers checks that content has the lines from..to-1 once each and in order.
func numbers(t *testing.T, content string, from, to int) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
	if len(lines) != to-from {
		t.Fatalf("%d lines, want %d to %d", len(lines), from, to)
	}
	for i, l := range lines {
		if _, rest, ok := strings.Cut(l, " stdout F "); ok {
			l = rest
		}
		if want := fmt.Sprintf("%d ", from+i); !strings.HasPrefix(l, want) {
			t.Fatalf("line %d is %.40q, want %q", i, l, want)
		}
	}
}

// round does one round for a log at once.
func (n *node) round(id, path string) error {
	return n.r.rotate(n.Context(), file{model.UID(id), id, path}, n.store.Snapshot())
}

func TestRotate(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "ns_p_u", "c", "0.log")
	c := newContainer(t, path)
	n := newNode(t, c, Config{PodLogsRoot: root, MaxSize: 1000, MaxFiles: 3})
	n.running("c", path)
	for range 6 {
		for range 20 {
			c.write(100)
		}
		if err := n.round("c", path); err != nil {
			t.Fatal(err)
		}
	}
	names, content := logs(t, path)
	if len(names) != 3 || !strings.HasSuffix(names[0], ".gz") || strings.HasSuffix(names[1], ".gz") || names[2] != "0.log" {
		t.Errorf("files %q", names)
	}
	numbers(t, content, 4*23, c.n)
	if err := n.round("c", path); err != nil || c.reopened != 6 {
		t.Errorf("a small log was rotated: %v, %d times", err, c.reopened)
	}
}

// A runtime that refuses to reopen goes on writing where the log is expected to be.
func TestRefusedReopen(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "p", "0.log")
	c := newContainer(t, path)
	c.refuse = 1
	n := newNode(t, c, Config{PodLogsRoot: root, MaxSize: 10})
	n.running("c", path)
	c.write(100)
	if err := n.round("c", path); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
	c.write(100)
	if names, content := logs(t, path); len(names) != 1 || names[0] != "0.log" {
		t.Errorf("files %q", names)
	} else {
		numbers(t, content, 0, 2)
	}
}

// A daemon that was killed between rename and reopen: the next look finds no log and reopens.
func TestBrokenOff(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "p", "0.log")
	c := newContainer(t, path)
	c.write(10)
	if err := os.Rename(path, path+".20260101-000000"); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, c, Config{PodLogsRoot: root, MaxSize: 10 << 20, Monitor: time.Millisecond})
	n.running("c", path)
	stop := n.start()
	for {
		if _, err := os.Stat(path); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
	_, content := logs(t, path)
	numbers(t, content, 0, c.n)
}

// A link in the log directory, which a pod with a hostPath could have put there, leads nowhere.
func TestLinkLeadsNowhere(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	victim := filepath.Join(outside, "0.log")
	if err := os.WriteFile(victim, bytes.Repeat([]byte("x"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(root, "p")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "p", "0.log")
	n := newNode(t, nil, Config{PodLogsRoot: root, MaxSize: 10})
	n.running("c", path)
	if err := n.round("c", path); err == nil {
		t.Error("a link was followed")
	}
	if names, _ := logs(t, victim); len(names) != 1 {
		t.Errorf("%q", names)
	}
}

// While one container's runtime hangs, others' logs are rotated.
func TestOneHangs(t *testing.T) {
	root := t.TempDir()
	hung, fine := filepath.Join(root, "a", "0.log"), filepath.Join(root, "b", "0.log")
	a, b := newContainer(t, hung), newContainer(t, fine)
	a.hang = make(chan struct{})
	n := newNode(t, each{"a": a, "b": b}, Config{PodLogsRoot: root, MaxSize: 10, Monitor: time.Millisecond})
	a.write(10)
	b.write(10)
	n.running("a", hung)
	n.running("b", fine)
	defer n.start()()
	for {
		b.mu.Lock()
		done := b.reopened > 0
		b.mu.Unlock()
		if done {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

type each map[string]*container

func (e each) ReopenContainerLog(ctx context.Context, r *runtimev1.ReopenContainerLogRequest) (*runtimev1.ReopenContainerLogResponse, error) {
	return e[r.GetContainerId()].ReopenContainerLog(ctx, r)
}

// A writer that never rests, a rotator that rotates all the time, and a follower: each line once and in order.
func TestFollowSurvives(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "ns_p_u", "c", "0.log")
	c := newContainer(t, path)
	// As many files as there can be, so that the follower can never be outrun.
	n := newNode(t, c, Config{PodLogsRoot: root, MaxSize: 2000, MaxFiles: 1000, Monitor: time.Millisecond})
	n.running("c", path)
	reader := crilog.NewReader()
	defer reader.Close()
	var out bytes.Buffer
	ended, done, begun := make(chan struct{}), make(chan error, 1), make(chan struct{})
	var once sync.Once
	go func() {
		done <- reader.Read(t.Context(), crilog.Log{Root: root, Path: path, Ended: ended, Idle: func() error { once.Do(func() { close(begun) }); return nil }},
			crilog.Options{Follow: true, Stdout: &out})
	}()
	<-begun
	stop := n.start()
	for {
		c.write(100)
		c.mu.Lock()
		enough := c.reopened >= 8
		c.mu.Unlock()
		if enough {
			break
		}
		time.Sleep(200 * time.Microsecond)
	}
	stop()
	close(ended)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	numbers(t, out.String(), 0, c.n)
}

func TestBadConfig(t *testing.T) {
	for _, cfg := range []Config{{PodLogsRoot: "relative"}, {PodLogsRoot: "/x", MaxFiles: 1}, {}} {
		if _, err := New(cfg, Deps{}); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
	r, err := New(Config{PodLogsRoot: "/x", MaxSize: -1}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil { // nothing is rotated, nothing fails
		t.Error(err)
	}
}
