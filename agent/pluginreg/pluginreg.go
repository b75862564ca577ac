package pluginreg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

const (
	// resync is how often the directory is read although nothing is known to have happened there.
	resync = time.Minute
	// patience bounds one exchange with a plugin, its handler's work apart.
	patience = 10 * time.Second
	// handling bounds the work of a handler for one registration.
	handling = time.Minute
)

// Types of plugins.
const (
	CSIPlugin    = registerapi.CSIPlugin
	DevicePlugin = registerapi.DevicePlugin
	DRAPlugin    = registerapi.DRAPlugin
)

// Handler takes plugins of one type into use and out of it.
type Handler interface {
	Register(ctx context.Context, name, endpoint string, versions []string) error
	Deregister(ctx context.Context, name, endpoint string) error
}

// Config has the values that rule this part.
type Config struct {
	// Dir is the registry directory, absolute.
	Dir string
}

// Deps are the seams.
type Deps struct {
	Store *store.Store
	// Handlers by type of plugin.
	Handlers map[string]Handler
	Log      *slog.Logger
	Health   *reconcile.Health
}

// Registry keeps the registered plugins in step with the directory.
type Registry struct {
	cfg  Config
	deps Deps
	mu   sync.Mutex
	// known are the plugins that registered, by socket.
	known map[string]plugin
	hints chan string
}

// plugin is what registered at a socket.
type plugin struct {
	kind, name, endpoint string
	file                 identity
}

// identity tells a socket from a later one of the same name.
type identity struct {
	inode uint64
	made  syscall.Timespec
}

// New makes a registry; Run does the work.
func New(cfg Config, deps Deps) *Registry {
	return &Registry{cfg: cfg, deps: deps, known: map[string]plugin{}, hints: make(chan string)}
}

// Run blocks until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	if err := os.MkdirAll(r.cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("create plugin registry: %w", err)
	}
	w, err := watch(r.cfg.Dir)
	if err != nil {
		return fmt.Errorf("watch plugin registry %s: %w", r.cfg.Dir, err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.hint(ctx, w) })
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer stop()
	loop := &reconcile.Keyed[string]{
		Name: "plugins", Store: r.deps.Store, Log: r.deps.Log,
		Keys: func(prev, _ *store.Snapshot) iter.Seq[string] {
			if prev != nil {
				return func(func(string) bool) {}
			}
			return maps.Keys(r.sockets())
		},
		Sync: r.sync, Resync: resync, Health: r.deps.Health, Hints: r.hints,
	}
	return loop.Run(ctx)
}

// hint names every socket whenever anything happens in the directory.
func (r *Registry) hint(ctx context.Context, w *os.File) {
	buf := make([]byte, 4096)
	for {
		if _, err := w.Read(buf); err != nil {
			return // closed: ctx has ended
		}
		for path := range r.sockets() {
			select {
			case r.hints <- path:
			case <-ctx.Done():
				return
			}
		}
	}
}

// sockets gives those in the directory and below, and those that were.
func (r *Registry) sockets() map[string]bool {
	all := map[string]bool{}
	_ = filepath.WalkDir(r.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type() == fs.ModeSocket && !strings.HasPrefix(d.Name(), ".") {
			all[path] = true
		}
		return nil // what cannot be read now is read at the next look
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for path := range r.known {
		all[path] = true
	}
	return all
}

// sync brings one socket up to date.
func (r *Registry) sync(ctx context.Context, path string, _ *store.Snapshot) (time.Duration, error) {
	r.mu.Lock()
	have, known := r.known[path]
	r.mu.Unlock()
	file, there, err := identify(path)
	if err != nil || known && there && have.file == file {
		return 0, err
	}
	if known {
		if err := r.drop(ctx, path, have, there); err != nil {
			return 0, err
		}
	}
	if !there {
		return 0, nil
	}
	p, err := r.register(ctx, path)
	if err != nil {
		return 0, fmt.Errorf("register plugin at %s: %w", path, err)
	}
	p.file = file
	r.mu.Lock()
	r.known[path] = p
	r.mu.Unlock()
	// Until now nothing would have said that this socket went: the directory no longer names it.
	if now, still, err := identify(path); err != nil || !still || now != file {
		return time.Millisecond, nil
	}
	return 0, nil
}

// drop forgets a plugin. One that is replaced is not deregistered: its volumes stay in use.
func (r *Registry) drop(ctx context.Context, path string, p plugin, replaced bool) error {
	if h := r.deps.Handlers[p.kind]; h != nil && !replaced {
		ctx, cancel := context.WithTimeout(ctx, handling)
		defer cancel()
		if err := h.Deregister(ctx, p.name, p.endpoint); err != nil {
			return fmt.Errorf("deregister plugin %s: %w", p.name, err)
		}
	}
	r.mu.Lock()
	delete(r.known, path)
	r.mu.Unlock()
	return nil
}

// register asks a plugin what it is, hands it over, and tells it what came of that.
func (r *Registry) register(ctx context.Context, path string) (plugin, error) {
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return plugin{}, err
	}
	defer conn.Close()
	client := registerapi.NewRegistrationClient(conn)
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, err := client.GetInfo(asking, &registerapi.InfoRequest{})
	if err != nil {
		return plugin{}, fmt.Errorf("ask what it is: %w", err)
	}
	p := plugin{kind: info.GetType(), name: info.GetName(), endpoint: info.GetEndpoint()}
	if p.endpoint == "" {
		p.endpoint = path
	}
	problem := r.handle(ctx, p, info.GetSupportedVersions())
	status := &registerapi.RegistrationStatus{PluginRegistered: problem == nil}
	if problem != nil {
		status.Error = problem.Error()
	}
	telling, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := client.NotifyRegistrationStatus(telling, status); err != nil && problem == nil {
		// It may not know that it is registered, but it is.
		r.deps.Log.Warn("tell plugin that it is registered", "plugin", p.name, "err", err)
	}
	return p, problem
}

func (r *Registry) handle(ctx context.Context, p plugin, versions []string) error {
	h := r.deps.Handlers[p.kind]
	if h == nil {
		return fmt.Errorf("plugin %s is of type %q, which this node does not support", p.name, p.kind)
	}
	// The name of a CSI driver is a directory's, that of a device plugin is its resource's, like vendor.com/device.
	if p.name == "" || strings.Contains(p.name, "\x00") || p.kind == CSIPlugin && strings.Contains(p.name, "/") {
		return fmt.Errorf("plugin name %q cannot be used", p.name)
	}
	ctx, cancel := context.WithTimeout(ctx, handling)
	defer cancel()
	return h.Register(ctx, p.name, p.endpoint, versions)
}

// identify gives the identity of a socket; there is false where there is none.
func identify(path string) (id identity, there bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return id, false, nil
	}
	if err != nil {
		return id, false, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return id, false, nil
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return id, false, fmt.Errorf("%s has no inode", path)
	}
	return identity{st.Ino, st.Ctim}, true, nil
}
