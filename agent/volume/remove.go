package volume

import (
	"context"
	"fmt"
	"path/filepath"

	"nodelet/agent/volume/csi"
	"nodelet/agent/volume/mount"
	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
)

// clear removes the volumes of a pod that is over but still in the API. The
// rest of its directory, such as termination messages, stays until the pod is gone.
func (v *Volumes) clear(ctx context.Context, uid model.UID) error {
	return v.takeDown(ctx, uid, "volumes", subPathDir)
}

// remove removes all of a pod that is gone.
func (v *Volumes) remove(ctx context.Context, uid model.UID) error {
	_, known := v.deps.Store.Snapshot().Volumes.Get(uid)
	err := v.takeDown(ctx, uid, ".")
	if known && ctx.Err() == nil {
		v.deps.Removed(uid.String(), err)
	}
	return err
}

// takeDown unmounts everything below the pod's directory, then removes these
// parts of it. From its first step on the volumes count as absent, and after
// its last the pod has no row any more.
func (v *Volumes) takeDown(ctx context.Context, uid model.UID, parts ...string) error {
	dir, err := volumeplan.PodDir(v.cfg.Root, uid)
	if err != nil {
		return err
	}
	if err := v.takeDrivers(ctx, uid, dir); err != nil {
		return fmt.Errorf("remove volumes of pod %s: %w", uid, err)
	}
	for _, part := range parts {
		if err := v.takePart(uid, dir, filepath.Join(dir, part)); err != nil {
			return fmt.Errorf("remove volumes of pod %s: %w", uid, err)
		}
	}
	v.refused.forget(uid)
	v.credentials.forget(uid)
	v.deps.Volumes.Delete(uid)
	return nil
}

// takeDrivers has the drivers take down theirs, before anything else is
// unmounted: they alone know what belongs to a volume. Sub paths of them go first.
func (v *Volumes) takeDrivers(ctx context.Context, uid model.UID, dir string) error {
	if v.deps.CSI == nil {
		return nil
	}
	if there, err := exists(filepath.Join(dir, csi.PodPart)); err != nil || !there {
		return err
	}
	v.goes(uid, nil)
	err := mount.UnmountBelow(filepath.Join(dir, subPathDir))
	if err == nil {
		err = v.deps.CSI.Remove(ctx, uid)
	}
	if err != nil {
		v.goes(uid, err)
	}
	return err
}

// goes says that the volumes of a pod are on their way out, and what keeps
// them. The claims stay with the pod until it is done.
func (v *Volumes) goes(uid model.UID, err error) {
	row := &model.PodVolumes{UID: uid, Message: "being removed"}
	if err != nil {
		row.Message += ": " + err.Error()
	}
	if old, ok := v.deps.Store.Snapshot().Volumes.Get(uid); ok {
		row.Claims = old.Claims
	}
	v.deps.Volumes.Set(uid, row)
}

func (v *Volumes) takePart(uid model.UID, dir, part string) error {
	if there, err := exists(part); err != nil || !there {
		return err
	}
	v.goes(uid, nil)
	err := mount.UnmountBelow(dir)
	if err == nil {
		err = mount.RemoveTree(part)
	}
	if err != nil {
		v.goes(uid, err)
	}
	return err
}
