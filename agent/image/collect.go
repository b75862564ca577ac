package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/image/gcplan"
	"nodelet/agent/image/imageplan"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// collectInterval is upstream's: how often the use of the images' file system is looked at.
const collectInterval = 5 * time.Minute

// CollectConfig is when images are removed.
type CollectConfig struct {
	NodeName string
	// Policy's zero values mean upstream's: 85 %, 80 %, 2 min. A High of 100 switches the thresholds off.
	Policy gcplan.Policy
	// Interval is how often to look; 0 means 5 min.
	Interval time.Duration
}

// CollectRuntime is what a Collector asks of the container runtime.
type CollectRuntime interface {
	ListImages(context.Context, *runtimev1.ListImagesRequest) (*runtimev1.ListImagesResponse, error)
	RemoveImage(context.Context, *runtimev1.RemoveImageRequest) (*runtimev1.RemoveImageResponse, error)
}

// CollectDeps are the seams of a Collector.
type CollectDeps struct {
	Deps
	Runtime CollectRuntime
	// Space is what the images' file system has, in bytes; false when that is not known.
	Space func(context.Context) (capacity, available uint64, ok bool)
	// Keep tells of a name whether its image is to stay although nobody uses it; may be nil.
	Keep func(name string) bool
	// Removed is told why each image was removed: space or age; may be nil.
	Removed func(reason string)
}

// Collector removes images that nobody uses.
type Collector struct {
	cfg   CollectConfig
	deps  CollectDeps
	began time.Time

	mu   sync.Mutex // one collection at a time
	seen map[string]*times
	// failures of rounds, one after the other.
	failures int
}

// times is what is remembered of one image. Losing it with the daemon keeps images longer, never shorter.
type times struct{ seen, used time.Time }

// NewCollector checks the policy.
func NewCollector(cfg CollectConfig, deps CollectDeps) (*Collector, error) {
	cfg.Policy = cfg.Policy.Completed()
	if err := cfg.Policy.Check(); err != nil {
		return nil, err
	}
	cfg.Interval = cmp.Or(cfg.Interval, collectInterval)
	if deps.Removed == nil {
		deps.Removed = func(string) {}
	}
	return &Collector{cfg: cfg, deps: deps, began: time.Now(), seen: map[string]*times{}}, nil
}

// Run blocks until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	loop := reconcile.Loop{
		Name: "collect images", Store: c.deps.Store, Log: c.deps.Log, Health: c.deps.Health,
		Ready:    func(s *store.Snapshot) bool { return s.Pods.Synced() && s.Runtime.Synced() },
		Relevant: func(_, _ *store.Snapshot) bool { return false },
		Resync:   c.cfg.Interval,
		Backoff:  reconcile.Backoff{Min: c.cfg.Interval, Max: c.cfg.Interval},
		Sync: func(ctx context.Context, _, _ *store.Snapshot) error {
			return c.told(ctx, c.collect(ctx, false))
		},
	}
	return loop.Run(ctx)
}

// told lets users know when it fails not once but again: the first time the runtime may just be busy.
func (c *Collector) told(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		c.failures = 0
		return err
	}
	if c.failures++; c.failures > 1 {
		c.event("ImageGCFailed", err.Error())
	}
	return err
}

// Reclaim removes all images that nobody uses.
func (c *Collector) Reclaim(ctx context.Context) error { return c.collect(ctx, true) }

func (c *Collector) collect(ctx context.Context, all bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	listed, err := c.deps.Runtime.ListImages(ctx, &runtimev1.ListImagesRequest{})
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	f := gcplan.Facts{Now: time.Now(), Policy: c.cfg.Policy, Began: c.began, All: all}
	f.Images = c.look(listed.GetImages(), f.Now)
	capacity, available, ok := c.deps.Space(ctx)
	if f.Capacity, f.Available = capacity, available; !ok || capacity == 0 {
		c.event("InvalidDiskCapacity", "invalid capacity 0 on image filesystem")
		return errors.New("look at the file system of images: its size is not known")
	}
	plan := gcplan.Make(f)
	var errs []error
	for _, i := range plan.Old {
		errs = append(errs, c.remove(ctx, i, "age"))
	}
	freed := uint64(0)
	for _, i := range plan.Candidates {
		if freed >= plan.Need {
			break
		}
		if err := c.remove(ctx, i, "space"); err != nil {
			errs = append(errs, err)
			continue
		}
		freed += i.Size
	}
	if plan.Need > freed && !all {
		message := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %d bytes used). "+
			"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
			"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.", plan.Percent, capacity, freed)
		c.event("FreeDiskSpaceFailed", message)
		c.deps.Log.Warn("collect images", "percent", plan.Percent, "needed", plan.Need, "freed", freed)
	}
	return errors.Join(errs...)
}

// look finds out which images are in use, and since when the others are not.
func (c *Collector) look(images []*runtimev1.Image, now time.Time) []gcplan.Image {
	used := inUse(c.deps.Store.Snapshot())
	there := map[string]bool{}
	var out []gcplan.Image
	for _, i := range images {
		id := i.GetId()
		there[id] = true
		t := c.seen[id]
		if t == nil {
			t = &times{seen: now}
			c.seen[id] = t
		}
		names := slices.Concat([]string{id}, i.GetRepoTags(), i.GetRepoDigests())
		is := slices.ContainsFunc(names, func(n string) bool { return used[n] })
		if is {
			t.used = now
		}
		pinned := i.GetPinned() || c.deps.Keep != nil && slices.ContainsFunc(i.GetRepoTags(), c.deps.Keep)
		out = append(out, gcplan.Image{ID: id, Size: i.GetSize(), Pinned: pinned, InUse: is, Seen: t.seen, Used: t.used})
	}
	for id := range c.seen {
		if !there[id] {
			delete(c.seen, id)
		}
	}
	return out
}

// inUse has all names of images that a container was made from or a pod asks for.
func inUse(snap *store.Snapshot) map[string]bool {
	used := map[string]bool{}
	for _, rt := range snap.Runtime.All() {
		for i := range rt.Containers {
			used[rt.Containers[i].Image], used[rt.Containers[i].ImageRef] = true, true
		}
	}
	for _, p := range snap.Pods.All() {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue // what its containers were made from counts as long as they are there
		}
		for _, ref := range named(p) {
			used[ref] = true
			if name, err := imageplan.WithTag(ref); err == nil {
				used[name] = true
			}
			if row, ok := snap.Images.Get(model.ImageRef(ref)); ok {
				used[row.ID] = true
			}
		}
	}
	delete(used, "")
	return used
}

func (c *Collector) remove(ctx context.Context, i gcplan.Image, reason string) error {
	// Between the look and now a pod may have come.
	if inUse(c.deps.Store.Snapshot())[i.ID] {
		return nil
	}
	_, err := c.deps.Runtime.RemoveImage(ctx, &runtimev1.RemoveImageRequest{Image: &runtimev1.ImageSpec{Image: i.ID}})
	if err != nil {
		return fmt.Errorf("remove image %s: %w", i.ID, err)
	}
	c.deps.Log.Info("image removed", "id", i.ID, "bytes", i.Size, "reason", reason)
	c.deps.Removed(reason)
	delete(c.seen, i.ID)
	c.deps.Images.Commit(func(tx *store.Tx[model.ImageRef, *model.Image]) {
		for ref, row := range c.deps.Store.Snapshot().Images.All() {
			if row.ID == i.ID {
				tx.Delete(ref) // whoever needs it now asks again
			}
		}
	})
	return nil
}

func (c *Collector) event(reason, message string) {
	name := c.cfg.NodeName
	c.deps.Events.Event(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name)}, corev1.EventTypeWarning, reason, message)
}
