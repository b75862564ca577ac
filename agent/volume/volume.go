package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/volume/csi"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// resync is how often every pod is looked at even if nothing is known to have
// changed, in case somebody else changed the disk. A look costs some file
// reads a pod.
const resync = 10 * time.Minute

// dirMode is for directories between the root and the volumes: pods hold secrets.
const dirMode = 0o750

// Config has the values that rule this part.
type Config struct {
	// Root is the kubelet root directory, absolute.
	Root string
	// NodeName is this node's.
	NodeName string
}

// Tokens issues service account tokens.
type Tokens interface {
	CreateToken(ctx context.Context, sa model.Key, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// Events tells users what happens to their pods; it never blocks.
type Events interface {
	Event(ref corev1.ObjectReference, eventType, reason, message string)
}

// Deps are the seams.
type Deps struct {
	Store   *store.Store
	Volumes *store.Writer[model.UID, *model.PodVolumes]
	Tokens  Tokens
	// Certificates of pods; nil where there are none.
	Certificates Certificates
	Events       Events
	// CSI makes the volumes of CSI drivers; nil where there are none.
	CSI *csi.Volumes
	// Measured is told of each operation on a volume that was not done already; may be nil.
	Measured func(plugin, operation string, took time.Duration, err error)
	// Removed is told how the removal went of what a pod left that nobody knows any more; may be nil.
	Removed func(uid string, err error)
	// Rejected is told of each pod that the node does not take because of its volumes, with the reason; may be nil.
	Rejected func(reason string)
	// Allocatable gives the resources the node offers to pods, nil while unknown.
	Allocatable func() corev1.ResourceList
	Log         *slog.Logger
	Health      *reconcile.Health
}

// Volumes is the volume part of the agent.
type Volumes struct {
	cfg  Config
	deps Deps
	// pods lets one at a time change what is on disk for a pod.
	pods  reconcile.Locks[model.UID]
	hosts hostChecks
	// refused is what the API server does not give yet.
	refused refusals
	// credentials are those that pods have or wait for.
	credentials credentials
}

// New makes the volume part; Run does the work.
func New(cfg Config, deps Deps) (*Volumes, error) {
	if !filepath.IsAbs(cfg.Root) {
		return nil, fmt.Errorf("kubelet root directory %q is not an absolute path", cfg.Root)
	}
	cfg.Root = filepath.Clean(cfg.Root)
	if deps.Allocatable == nil {
		deps.Allocatable = func() corev1.ResourceList { return nil }
	}
	if deps.Measured == nil {
		deps.Measured = func(string, string, time.Duration, error) {}
	}
	if deps.Rejected == nil {
		deps.Rejected = func(string) {}
	}
	if deps.Removed == nil {
		deps.Removed = func(string, error) {}
	}
	return &Volumes{cfg: cfg, deps: deps}, nil
}

// Run blocks until ctx ends.
func (v *Volumes) Run(ctx context.Context) error {
	if err := v.adopt(); err != nil {
		return err
	}
	loop := &reconcile.Keyed[model.UID]{
		Name:      "volumes",
		Store:     v.deps.Store,
		Log:       v.deps.Log,
		Ready:     func(s *store.Snapshot) bool { return s.Runtime.Synced() },
		Keys:      keys,
		Sync:      v.sync,
		Resync:    resync,
		Interrupt: idle,
		Health:    v.deps.Health,
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return loop.Run(ctx) })
	if v.deps.CSI != nil {
		g.Go(func() error { return v.deps.CSI.Run(ctx, v.deps.Store) })
	}
	return g.Wait()
}

// adopt notes every pod that an earlier run left on disk.
func (v *Volumes) adopt() error {
	dir := filepath.Join(v.cfg.Root, "pods")
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return fmt.Errorf("create directory of pods: %w", err)
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list directory of pods: %w", err)
	}
	v.adoptDrivers(found)
	v.deps.Volumes.Commit(func(tx *store.Tx[model.UID, *model.PodVolumes]) {
		for _, e := range found {
			uid := model.UID(e.Name())
			if !e.IsDir() || !podUID(e.Name()) {
				v.deps.Log.Warn("leaving alone what is not a pod's directory", "path", filepath.Join(dir, e.Name()))
				continue
			}
			if _, ok := tx.Get(uid); !ok {
				tx.Set(uid, &model.PodVolumes{UID: uid, Message: "not looked at since the daemon started"})
			}
		}
		tx.Synced()
	})
	return nil
}

// adoptDrivers reads which volumes of CSI drivers an earlier run left.
func (v *Volumes) adoptDrivers(found []os.DirEntry) {
	if v.deps.CSI == nil {
		return
	}
	var pods []model.UID
	for _, e := range found {
		if podUID(e.Name()) {
			pods = append(pods, model.UID(e.Name()))
		}
	}
	if err := v.deps.CSI.Adopt(pods); err != nil {
		v.deps.Log.Error("read which volumes of CSI drivers an earlier run left: until a start that can, none is unstaged", "err", err)
	}
}

// podUID reports whether name is a UID as the API server (UUID) or a source of
// static pods (hash) gives them. What is named otherwise is not removed.
func podUID(name string) bool {
	if len(name) != 36 && len(name) != 32 {
		return false
	}
	for _, c := range name {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && c != '-' {
			return false
		}
	}
	return true
}

// sync brings the volumes of one pod up to the snapshot.
func (v *Volumes) sync(ctx context.Context, uid model.UID, snap *store.Snapshot) (time.Duration, error) {
	release, err := v.pods.Acquire(ctx, uid)
	if err != nil {
		return 0, nil // the daemon ends
	}
	defer release()
	pod, known := snap.Pods.Get(uid)
	switch {
	case known && !over(pod):
		return v.present(ctx, pod, snap)
	case known && inUse(snap, uid):
		return v.refresh(ctx, pod, snap)
	case inUse(snap, uid):
		return 0, nil
	case known:
		return 0, v.clear(ctx, uid)
	case !snap.Pods.Missing(uid):
		return 0, nil // the API may know it
	}
	return 0, v.remove(ctx, uid)
}

// wanted reports whether a pod should have its volumes.
func wanted(snap *store.Snapshot, uid model.UID) bool {
	pod, ok := snap.Pods.Get(uid)
	return ok && !over(pod)
}

// over reports whether no container of the pod will start any more.
func over(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// inUse reports whether a container of the pod runs, or may run for all the runtime knows.
func inUse(snap *store.Snapshot, uid model.UID) bool {
	rt, ok := snap.Runtime.Get(uid)
	if !ok {
		return false
	}
	for i := range rt.Containers {
		if s := rt.Containers[i].State; s == model.ContainerRunning || s == model.ContainerUnknown {
			return true
		}
	}
	return false
}

// exists reports whether there is anything at path, without following it.
func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
