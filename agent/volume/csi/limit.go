package csi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	storagev1 "k8s.io/api/storage/v1"

	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// limitPatience is how long a pod waits for a volume that is not attached because the node has enough of
// them: upstream's time for all volumes of a pod.
const limitPatience = 2*time.Minute + 3*time.Second

// ErrAttachLimit says that the node has as many volumes as the driver takes, and that the pod has waited long enough.
var ErrAttachLimit = errors.New("the node has as many volumes as its CSI driver takes")

// limits is the loop that asks drivers again how many volumes they take here, where their CSIDriver says how
// often (KEP-4876).
func (v *Volumes) limits(s *store.Store) *reconcile.Keyed[string] {
	return &reconcile.Keyed[string]{
		Name: "volume limits", Store: s, Log: v.deps.Log, Health: v.deps.LimitHealth,
		Keys: func(prev, next *store.Snapshot) iter.Seq[string] {
			return func(yield func(string) bool) {
				if prev == nil {
					prev = &store.Snapshot{}
				}
				for d := range next.Drivers.Since(prev.Drivers) {
					if !yield(d.Key.Name) {
						return
					}
				}
			}
		},
		Sync: func(ctx context.Context, name string, snap *store.Snapshot) (time.Duration, error) {
			o, ok := snap.Drivers.Get(model.Key{Name: name})
			if !ok || o.Spec.NodeAllocatableUpdatePeriodSeconds == nil {
				return 0, nil
			}
			return v.keepLimit(ctx, name, time.Duration(*o.Spec.NodeAllocatableUpdatePeriodSeconds)*time.Second)
		},
	}
}

// keepLimit asks a driver when it is due, and says when that is again; 0 for never.
func (v *Volumes) keepLimit(ctx context.Context, name string, period time.Duration) (time.Duration, error) {
	if period <= 0 {
		return 0, nil
	}
	d, err := v.drivers.get(name)
	if err != nil {
		return period, nil // when it registers it is asked in any case
	}
	defer d.release()
	if wait := period - time.Since(time.Unix(0, d.asked.Load())); wait > 0 {
		return wait, nil
	}
	return period, v.askLimit(ctx, d)
}

// askLimit brings up to date what the CSINode says of a driver.
func (v *Volumes) askLimit(ctx context.Context, d *driver) error {
	info, err := call(ctx, d, "NodeGetInfo", d.node.NodeGetInfo, &csipb.NodeGetInfoRequest{})
	if err != nil {
		return fmt.Errorf("ask CSI driver %s how many volumes it takes: %w", d.name, err)
	}
	d.asked.Store(time.Now().UnixNano())
	return v.changeCSINode(ctx, func(n *storagev1.CSINode) {
		if i := slices.IndexFunc(n.Spec.Drivers, func(e storagev1.CSINodeDriver) bool { return e.Name == d.name }); i >= 0 {
			n.Spec.Drivers[i] = entryOf(d.name, info)
		}
	})
}

// exhausted judges a volume whose attacher says that the node has enough: the scheduler is told at once, the
// pod after a time in which another volume may have gone.
func (j *job) exhausted(ctx context.Context, e *storagev1.VolumeError) error {
	if e == nil || e.ErrorCode == nil || *e.ErrorCode != int32(codes.ResourceExhausted) || !j.Volume.CSI.LimitMoves {
		return nil
	}
	since, first := j.waits.since(j.rec.waitKey())
	if first {
		if err := j.askLimit(ctx, j.driver); err != nil {
			j.deps.Log.Warn("volume limit", "err", err)
		}
	}
	if time.Since(since) < cmp.Or(j.cfg.LimitPatience, limitPatience) {
		return fmt.Errorf("volume %s: %w: %s", j.rec.Spec, ErrNotAttached, e.Message)
	}
	return fmt.Errorf("volume %s: %w: %s", j.rec.Spec, ErrAttachLimit, e.Message)
}

// waitKey is a volume of a pod.
func (r record) waitKey() string { return string(r.pod) + "/" + r.Spec }

// waits is since when volumes of pods wait for room on the node.
type waits struct {
	mu sync.Mutex
	at map[string]time.Time
}

// since gives the time of the first call with a key, and whether this is it.
func (w *waits) since(key string) (t time.Time, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, ok := w.at[key]
	if !ok {
		if w.at == nil {
			w.at = map[string]time.Time{}
		}
		t = time.Now()
		w.at[key] = t
	}
	return t, !ok
}

func (w *waits) forget(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.at, key)
}
