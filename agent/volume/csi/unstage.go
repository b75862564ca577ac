package csi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"

	"nodelet/agent/volume/mount"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// resync is how often what is staged is compared with the pods even if no pod has left a volume.
const resync = 10 * time.Minute

// plugin is upstream's name of all that drivers of CSI do.
const plugin = "kubernetes.io/csi"

// operation gives upstream's name of what is done to a volume.
func operation(block bool, ofBlock, ofFiles string) string {
	if block {
		return ofBlock
	}
	return ofFiles
}

// place is where a volume is staged, or may be.
type place struct {
	// id is the volume's, dir where it is staged, file the record of that.
	id, dir, file string
	block         bool
}

// String is what people are told of a volume that cannot be unstaged.
func (p place) String() string { return p.id }

func (v *Volumes) place(rec record) place {
	dir, file := v.staging(rec)
	return place{id: rec.id(), dir: dir, file: file, block: rec.Block}
}

// Run unstages the volumes that no pod has any more, and keeps what the CSINode says of drivers. It blocks
// until ctx ends. Adopt comes first.
func (v *Volumes) Run(ctx context.Context, s *store.Store) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return v.leftovers(s).Run(ctx) })
	g.Go(func() error { return v.limits(s).Run(ctx) })
	return g.Wait()
}

// leftovers is the loop that unstages the volumes that no pod has any more, each by itself, and tries until
// its driver has done it: no pod waits for that.
func (v *Volumes) leftovers(s *store.Store) *reconcile.Keyed[place] {
	return &reconcile.Keyed[place]{
		Name: "unstage volumes", Store: s, Log: v.deps.Log, Health: v.deps.Health,
		Keys: func(prev, _ *store.Snapshot) iter.Seq[place] {
			return func(yield func(place) bool) {
				if prev != nil {
					return // by hints
				}
				for _, rec := range v.staged() {
					if !yield(v.place(rec)) {
						return
					}
				}
			}
		},
		Hints:  v.idle,
		Sync:   v.settle,
		Resync: resync,
	}
}

// Adopt reads what an earlier run left: the volumes of these pods, and what is staged.
func (v *Volumes) Adopt(pods []model.UID) error {
	var errs []error
	for _, uid := range pods {
		records, err := v.podRecords(uid)
		errs = append(errs, err)
		for _, rec := range records {
			v.users.add(rec.id(), uid)
			if rec.Attach {
				v.inUse.add(rec.id())
			}
		}
	}
	for _, rec := range v.staged() {
		if rec.Attach {
			v.inUse.add(rec.id())
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		v.users.doubt() // nothing is unstaged that a pod may have
	}
	return err
}

// staged lists what the records of staging name. What cannot be read, or lies elsewhere than we and
// upstream put it, is left alone.
func (v *Volumes) staged() (all []record) {
	for pattern, block := range map[string]bool{globalPart + "/*/*/" + recordFile: false, blockPart + "/*/data/" + recordFile: true} {
		files, _ := filepath.Glob(filepath.Join(v.cfg.Root, pattern)) // the pattern is well-formed
		for _, file := range files {
			rec, ok := readRecord(file)
			rec.Block = block
			if block {
				rec.Spec = cmp.Or(rec.Spec, filepath.Base(filepath.Dir(filepath.Dir(file))))
			}
			if _, at := v.staging(rec); !ok || rec.Driver == "" || rec.Handle == "" || at != file {
				v.deps.Log.Debug("not the record of a staged volume", "path", file)
				continue
			}
			all = append(all, rec)
		}
	}
	return all
}

// settle unstages a volume unless a pod has it, and then gives it free to be detached.
func (v *Volumes) settle(ctx context.Context, p place, _ *store.Snapshot) (time.Duration, error) {
	release, err := v.locks.Acquire(ctx, p.id)
	if err != nil {
		return 0, nil // the daemon ends
	}
	defer release()
	if v.users.any(p.id) {
		return 0, nil // the end of that pod leads here again
	}
	if there, err := exists(p.file); err != nil {
		return 0, err
	} else if there {
		start := time.Now()
		err := v.unstage(ctx, p)
		v.deps.Measured(plugin, operation(p.block, "unmap_device", "unmount_device"), time.Since(start), err)
		if err != nil {
			return 0, err
		}
	}
	if !v.inUse.has(p.id) {
		return 0, nil
	}
	v.inUse.remove(p.id)
	if err := v.reportInUse(ctx); err != nil {
		v.inUse.add(p.id)
		return 0, err
	}
	return 0, nil
}

// unstage undoes stage.
func (v *Volumes) unstage(ctx context.Context, p place) error {
	rec, ok := readRecord(p.file)
	if !ok {
		return fmt.Errorf("read record of staged volume %s: unmount what is below its directory and remove it by hand", p.file)
	}
	d, err := v.drivers.get(rec.Driver)
	if err != nil {
		return fmt.Errorf("unstage at %s: %w", p.dir, err)
	}
	defer d.release()
	if d.can(csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME) {
		// From here on nobody knows whether the volume is staged: a pod that comes has it staged anew.
		rec.Done = ""
		if err := writeRecord(p.file, rec); err != nil {
			return err
		}
		_, err := call(ctx, d, "NodeUnstageVolume", d.node.NodeUnstageVolume, &csipb.NodeUnstageVolumeRequest{VolumeId: rec.Handle, StagingTargetPath: p.dir})
		if err != nil {
			return fmt.Errorf("NodeUnstageVolume at %s: %w", p.dir, err)
		}
	}
	if err := mount.RemoveTree(p.dir); err != nil {
		return err
	}
	if err := os.Remove(p.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of staged volume: %w", err)
	}
	// Only directories that are empty now go.
	_ = os.Remove(filepath.Dir(p.file))
	return nil
}

// keepAttached brings up to date whether the volume counts as in use for as long as it is staged; rec is a pod's.
func (v *Volumes) keepAttached(rec record) error {
	_, file := v.staging(rec)
	have, ok := readRecord(file)
	if !ok || have.Attach == rec.Attach || rec.Mode == "Ephemeral" {
		return nil
	}
	have.Attach = rec.Attach
	return writeRecord(file, have)
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
