package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/logs/logplan"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// Upstream's values, for what the configuration leaves out.
const (
	defaultSize    = 10 << 20
	defaultFiles   = 5
	defaultMonitor = 10 * time.Second
	// defaultWorkers is more than upstream's 1: a runtime that hangs takes one.
	defaultWorkers = 4
)

// Config says when and how. Zero values mean upstream's.
type Config struct {
	// PodLogsRoot is the directory that all container logs are below.
	PodLogsRoot string
	// MaxSize in bytes (10 Mi); negative: nothing is rotated. MaxFiles is at least 2 (5).
	MaxSize  int64
	MaxFiles int
	// Monitor is how often all logs are looked at (10 s), Workers how many are rotated at a time.
	Monitor time.Duration
	Workers int
}

// Runtime is what the package asks of the container runtime.
type Runtime interface {
	ReopenContainerLog(context.Context, *runtimev1.ReopenContainerLogRequest) (*runtimev1.ReopenContainerLogResponse, error)
}

// Deps are the seams of a Rotator.
type Deps struct {
	Store   *store.Store
	Runtime Runtime
	Log     *slog.Logger
	Health  *reconcile.Health
}

// Rotator rotates the logs of this node.
type Rotator struct {
	cfg    Config
	deps   Deps
	policy logplan.Policy
	due    chan file
}

// file names the log of one container.
type file struct {
	uid       model.UID
	container string // its id
	path      string
}

// String is the path.
func (f file) String() string { return f.path }

// New checks the configuration.
func New(cfg Config, deps Deps) (*Rotator, error) {
	if cfg.MaxSize == 0 {
		cfg.MaxSize = defaultSize
	}
	if cfg.MaxFiles == 0 {
		cfg.MaxFiles = defaultFiles
	}
	if cfg.Monitor <= 0 {
		cfg.Monitor = defaultMonitor
	}
	if cfg.Workers <= 0 {
		cfg.Workers = defaultWorkers
	}
	if cfg.MaxFiles < 2 {
		return nil, fmt.Errorf("containerLogMaxFiles is %d: it must be at least 2", cfg.MaxFiles)
	}
	if !filepath.IsAbs(cfg.PodLogsRoot) {
		return nil, fmt.Errorf("pod log directory %q: it must be an absolute path", cfg.PodLogsRoot)
	}
	return &Rotator{
		cfg: cfg, deps: deps, due: make(chan file),
		policy: logplan.Policy{MaxSize: cfg.MaxSize, MaxFiles: cfg.MaxFiles},
	}, nil
}

// Run blocks until ctx ends.
func (r *Rotator) Run(ctx context.Context) error {
	if r.cfg.MaxSize < 0 {
		<-ctx.Done()
		return nil
	}
	watch := reconcile.Loop{
		Name: "look at logs", Store: r.deps.Store, Log: r.deps.Log, Health: r.deps.Health,
		Ready:    func(s *store.Snapshot) bool { return s.Runtime.Synced() },
		Relevant: func(_, _ *store.Snapshot) bool { return false }, // a log grows without the store
		Resync:   r.cfg.Monitor,
		Sync:     r.look,
	}
	work := reconcile.Keyed[file]{
		Name: "rotate logs", Store: r.deps.Store, Log: r.deps.Log, Parallel: r.cfg.Workers,
		Keys: func(_, _ *store.Snapshot) iter.Seq[file] { return func(func(file) bool) {} },
		Sync: func(ctx context.Context, f file, snap *store.Snapshot) (time.Duration, error) {
			return 0, r.rotate(ctx, f, snap)
		},
		Hints:   r.due,
		Backoff: reconcile.Backoff{Min: time.Second, Max: r.cfg.Monitor},
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return watch.Run(ctx) })
	g.Go(func() error { return work.Run(ctx) })
	return g.Wait()
}

// look looks at the size of the log of each container that runs; those of others do not grow.
func (r *Rotator) look(ctx context.Context, _, snap *store.Snapshot) error {
	for uid, pod := range snap.Runtime.All() {
		for i := range pod.Containers {
			c := &pod.Containers[i]
			if c.State != model.ContainerRunning || c.LogPath == "" {
				continue
			}
			info, err := os.Lstat(c.LogPath)
			missing := errors.Is(err, fs.ErrNotExist)
			if !missing && (err != nil || info.Size() < r.cfg.MaxSize) {
				continue
			}
			select {
			case r.due <- file{uid, c.ID, c.LogPath}:
			case <-ctx.Done():
				return nil
			}
		}
	}
	return nil
}

// rotate does one round for one log. A round that failed half-way is tried again; when the container
// has ended meanwhile there is no need.
func (r *Rotator) rotate(ctx context.Context, f file, snap *store.Snapshot) error {
	pod, ok := snap.Runtime.Get(f.uid)
	if !ok {
		return nil
	}
	if c := pod.ByID(f.container); c == nil || c.State != model.ContainerRunning {
		return nil
	}
	d, base, err := openDir(r.cfg.PodLogsRoot, f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the pod is being removed
	}
	if err != nil {
		return fmt.Errorf("rotate log %s: %w", f.path, err)
	}
	defer d.Close()
	reopen := func() error {
		_, err := r.deps.Runtime.ReopenContainerLog(ctx, &runtimev1.ReopenContainerLogRequest{ContainerId: f.container})
		return err
	}
	info, err := d.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A rotation was broken off between its two steps, or somebody removed the file.
		err = reopen()
	case err == nil && info.Size() >= r.policy.MaxSize:
		err = carryOut(d, base, r.policy, reopen)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("rotate log %s of container %.12s: %w", f.path, f.container, err)
	}
	return nil
}
