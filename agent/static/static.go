package static

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/static/staticplan"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// Config has the values that rule this part.
type Config struct {
	NodeName string
	// Path is a directory of manifests, or one manifest; empty for none.
	Path string
	// URL answers with a Pod or a list of them; empty for none. Header goes with each request.
	URL    string
	Header http.Header
	// FileCheck is how often Path is read although the kernel told of no change,
	// HTTPCheck how often URL is asked; 0 means 20 s, as upstream.
	FileCheck, HTTPCheck time.Duration
	// Record is the file that keeps what was taken.
	Record string
}

// API is what the package asks of the API server. Errors are those of k8s.io/apimachinery.
type API interface {
	CreatePod(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error)
	PatchPodStatus(ctx context.Context, key model.Key, uid model.UID, patch []byte) (*corev1.Pod, error)
	DeletePod(ctx context.Context, key model.Key, uid model.UID) error
}

// Deps are the seams.
type Deps struct {
	Store *store.Store
	// Pods: the static rows are written here.
	Pods *store.Writer[model.UID, *corev1.Pod]
	API  API
	Log  *slog.Logger
	// Troubled is told how many manifests have no effect; may be nil.
	Troubled func(n float64, _ ...string)
	// Health and MirrorHealth of the loops; may be nil.
	Health, MirrorHealth *reconcile.Health
}

// Static has the node's own pods.
type Static struct {
	cfg   Config
	deps  Deps
	wake  chan struct{}
	watch watch
	http  *http.Client

	mu sync.Mutex
	// rows are the pods taken, by UID.
	rows map[model.UID]staticplan.Row
	// version numbers the objects, as the API's resource versions do.
	version uint64
	// said are the problems that were logged, by place; warned the warnings.
	said   map[string]string
	warned map[string]bool
	// saving failed: said once.
	unsaved bool
}

// New makes it and puts the pods that are known into the store: their
// containers may run already, and nobody must take them for orphans.
func New(cfg Config, deps Deps) (*Static, error) {
	if cfg.Path != "" && !filepath.IsAbs(cfg.Path) {
		return nil, fmt.Errorf("static pods: the path %q must start with /", cfg.Path)
	}
	if cfg.Record == "" || cfg.NodeName == "" || deps.Store == nil || deps.Pods == nil || deps.API == nil || deps.Log == nil {
		return nil, errors.New("static pods: a setting or a dependency is missing")
	}
	if deps.Troubled == nil {
		deps.Troubled = func(float64, ...string) {}
	}
	for _, d := range []*time.Duration{&cfg.FileCheck, &cfg.HTTPCheck} {
		if *d <= 0 {
			*d = 20 * time.Second
		}
	}
	s := &Static{
		cfg: cfg, deps: deps, wake: make(chan struct{}, 1), http: &http.Client{Timeout: httpTimeout},
		rows: map[model.UID]staticplan.Row{}, said: map[string]string{}, warned: map[string]bool{},
	}
	s.load()
	if found, err := s.readFiles(); err != nil {
		deps.Log.Error("read static pods, going on with those that were taken before", "err", err)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.publish()
	} else {
		s.take(fromFiles, found)
	}
	return s, nil
}

// Run blocks until ctx ends. Pods go on running.
func (s *Static) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	never := func(_, _ *store.Snapshot) bool { return false }
	files := &reconcile.Loop{
		Name: "static pods", Store: s.deps.Store, Log: s.deps.Log, Health: s.deps.Health,
		Relevant: never, Sync: s.syncFiles, Resync: s.cfg.FileCheck, Wake: s.wake,
	}
	group.Go(func() error { return files.Run(ctx) })
	if s.cfg.URL != "" {
		url := &reconcile.Loop{
			Name: "static pods from URL", Store: s.deps.Store, Log: s.deps.Log,
			Relevant: never, Sync: s.syncURL, Resync: s.cfg.HTTPCheck,
		}
		group.Go(func() error { return url.Run(ctx) })
	}
	group.Go(func() error { return s.mirrors().Run(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		s.watch.close()
		return nil
	})
	return group.Wait()
}

// syncFiles reads all manifests and takes what follows from them.
func (s *Static) syncFiles(ctx context.Context, _, _ *store.Snapshot) error {
	s.watch.keep(ctx, s.cfg.Path, s.wake)
	found, err := s.readFiles()
	if err != nil {
		return err // nothing is known, so nothing changes
	}
	s.take(fromFiles, found)
	return nil
}

// source tells rows by where they come from.
type source bool

const (
	fromFiles source = false
	fromURL   source = true
)

func (s *Static) sourceOf(r staticplan.Row) source { return source(r.Place == s.cfg.URL) }

// take brings the rows of one source in line with its manifests.
func (s *Static) take(from source, found []staticplan.Found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []staticplan.Row
	for _, r := range s.rows {
		if s.sourceOf(r) == from {
			rows = append(rows, r)
		}
	}
	change := staticplan.Next(rows, found)
	s.tell(change, found)
	now := time.Now()
	for _, uid := range change.End {
		s.put(ending(s.rows[uid], now))
	}
	for _, r := range change.Add {
		s.put(beginning(r, now))
	}
	s.publish()
}

// tell logs what happens and what is wrong, each once.
func (s *Static) tell(c staticplan.Change, found []staticplan.Found) {
	for _, r := range c.Add {
		s.deps.Log.Info("take static pod", "pod", r.Pod.Namespace+"/"+r.Pod.Name, "manifest", r.Place, "uid", r.Pod.UID)
	}
	for _, uid := range c.End {
		r := s.rows[uid]
		s.deps.Log.Info("end static pod: its manifest is gone or has changed", "pod", r.Pod.Namespace+"/"+r.Pod.Name, "manifest", r.Place, "uid", uid)
	}
	for place, problem := range c.Problems {
		if s.said[place] != problem {
			s.said[place] = problem
			s.deps.Log.Error("read static pod manifest: what it described before goes on unchanged", "manifest", place, "err", problem)
		}
	}
	defer func() { s.deps.Troubled(float64(len(s.said))) }()
	for _, f := range found {
		if _, bad := c.Problems[f.Place]; !bad && s.said[f.Place] != "" {
			delete(s.said, f.Place)
			s.deps.Log.Info("static pod manifest is well again", "manifest", f.Place)
		}
	}
}
