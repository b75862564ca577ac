package stats

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

const (
	// directoryAge and, for all others, askAge are how old a figure may be before it is taken anew when asked for.
	directoryAge = time.Minute
	askAge       = 10 * time.Second
	// forgotten is when a figure that nobody asks for is dropped.
	forgotten = 10 * time.Minute
	// askTimeout bounds a question to the runtime.
	askTimeout = 30 * time.Second
)

// Keys of figures that are no directories.
const (
	layersKey = "writable layers"
	imagesKey = "image file systems"
	// fsKey is before a path whose file system is meant, not the directory.
	fsKey = "file system "
)

// figure is something that takes long to measure.
type figure struct {
	asked, taken time.Time
	pending      bool
	space        *Space
}

// figures has the last answers to what takes long, and the loop that gets them.
type figures struct {
	runtime Runtime
	drivers Drivers
	log     *slog.Logger
	due     chan string

	mu      sync.Mutex
	all     map[string]*figure
	changed chan struct{} // closed by the next figure
	// byContainer are the writable layers; images and containers the runtime's file systems.
	byContainer        map[string]*Space
	images, containers fsInfo
}

// fsInfo is a file system of the runtime and what it says it uses of it.
type fsInfo struct {
	path string
	used Space
}

func newFigures(d Deps) *figures {
	return &figures{runtime: d.Runtime, drivers: d.Drivers, log: d.Log, due: make(chan string, 1024), all: map[string]*figure{}, changed: make(chan struct{})}
}

// run measures, one directory at a time, until ctx ends. The runtime has places of its own.
func (f *figures) run(ctx context.Context, deps Deps) error {
	walks := make(chan struct{}, 1)
	loop := reconcile.Keyed[string]{
		Name: "stats", Store: deps.Store, Log: deps.Log, Health: deps.Health,
		Keys:  func(_, _ *store.Snapshot) iter.Seq[string] { return func(func(string) bool) {} },
		Hints: f.due,
		Sync: func(ctx context.Context, key string, _ *store.Snapshot) (time.Duration, error) {
			path, isFs := strings.CutPrefix(key, fsKey)
			switch {
			case key == layersKey:
				f.put(key, f.askLayers(ctx))
			case key == imagesKey:
				f.put(key, f.askImages(ctx))
			case isFs:
				f.put(key, f.askVolume(ctx, path))
			default:
				select {
				case walks <- struct{}{}:
				case <-ctx.Done():
					return 0, nil
				}
				f.put(key, walk(key, func(d time.Duration) bool { return pause(ctx, d) }))
				<-walks
			}
			return 0, nil
		},
	}
	return loop.Run(ctx)
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ask notes that a figure is wanted and has it taken when it is too old; it tells whether there is one.
func (f *figures) ask(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	g := f.all[key]
	if g == nil {
		g = &figure{}
		f.all[key] = g
		maps.DeleteFunc(f.all, func(_ string, g *figure) bool { return !g.asked.IsZero() && now.Sub(g.asked) > forgotten })
	}
	g.asked = now
	age := askAge
	if strings.HasPrefix(key, "/") {
		age = directoryAge
	}
	if !g.pending && now.Sub(g.taken) >= age {
		select {
		case f.due <- key:
			g.pending = true
		default: // so many wait already; the next time it is asked for
		}
	}
	return !g.taken.IsZero()
}

// put notes an answer; nil when there was none: then the last one stays.
func (f *figures) put(key string, space *Space) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.all[key]
	if g == nil {
		return // nobody wants it any more
	}
	g.pending, g.taken = false, time.Now()
	if space != nil {
		g.space = space
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// await asks for figures and waits for those that were never taken before.
func (f *figures) await(ctx context.Context, keys []string) {
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		complete := true
		for _, key := range keys {
			complete = f.ask(key) && complete
		}
		if complete {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// last is the last answer for a figure.
func (f *figures) last(key string) (*Space, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.all[key]
	if g == nil || g.space == nil {
		return nil, false
	}
	return g.space, true
}

// askVolume asks the driver of a volume, which may know better than the kernel, else the kernel.
func (f *figures) askVolume(ctx context.Context, path string) *Space {
	if f.drivers != nil {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		if sp, ok := f.drivers.VolumeSpace(ctx, path); ok {
			return sp
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeDevice != 0 {
		return nil // a device has no files to count
	}
	return fsSpace(path)
}

// askLayers asks the runtime for what containers have written.
func (f *figures) askLayers(ctx context.Context) *Space {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := f.runtime.ListContainerStats(ctx, &runtimev1.ListContainerStatsRequest{})
	if err != nil {
		f.log.Debug("ask the runtime for writable layers", "err", err)
		return nil
	}
	layers := make(map[string]*Space, len(resp.GetStats()))
	for _, st := range resp.GetStats() {
		if l := st.GetWritableLayer(); l != nil {
			layers[st.GetAttributes().GetId()] = &Space{
				At: time.Unix(0, l.GetTimestamp()), Used: l.GetUsedBytes().GetValue(), InodesUsed: l.GetInodesUsed().GetValue(),
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.byContainer = layers
	return &Space{}
}

func (f *figures) layers() (map[string]*Space, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byContainer, f.byContainer != nil
}

// askImages asks the runtime which file systems it uses.
func (f *figures) askImages(ctx context.Context) *Space {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := f.runtime.ImageFsInfo(ctx, &runtimev1.ImageFsInfoRequest{})
	if err != nil {
		f.log.Debug("ask the runtime for its file systems", "err", err)
		return nil
	}
	first := func(all []*runtimev1.FilesystemUsage) fsInfo {
		if len(all) == 0 {
			return fsInfo{}
		}
		u := all[0]
		return fsInfo{path: u.GetFsId().GetMountpoint(), used: Space{
			At: time.Unix(0, u.GetTimestamp()), Used: u.GetUsedBytes().GetValue(), InodesUsed: u.GetInodesUsed().GetValue(),
		}}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images, f.containers = first(resp.GetImageFilesystems()), first(resp.GetContainerFilesystems())
	if f.containers.path == "" {
		f.containers = f.images
	}
	return &Space{}
}

// imageFs is the file system of the images now, with what the runtime last said it uses of it.
func (f *figures) imageFs() *Space {
	f.mu.Lock()
	info := f.images
	f.mu.Unlock()
	return info.used.within(fsSpace(info.path)).unless(info.path == "")
}

func (f *figures) containerFs() *Space {
	f.mu.Lock()
	info := f.containers
	f.mu.Unlock()
	return info.used.within(fsSpace(info.path)).unless(info.path == "")
}

func (s *Space) unless(unknown bool) *Space {
	if unknown {
		return nil
	}
	return s
}
