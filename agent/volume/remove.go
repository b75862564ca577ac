package volume

import (
	"fmt"
	"path/filepath"

	"nodelet/agent/volume/mount"
	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
)

// clear removes the volumes of a pod that is over but still in the API. The
// rest of its directory, such as termination messages, stays until the pod is gone.
func (v *Volumes) clear(uid model.UID) error {
	return v.takeDown(uid, "volumes", subPathDir)
}

// remove removes all of a pod that is gone.
func (v *Volumes) remove(uid model.UID) error {
	return v.takeDown(uid, ".")
}

// takeDown unmounts everything below the pod's directory, then removes these
// parts of it. From its first step on the volumes count as absent, and after
// its last the pod has no row any more.
func (v *Volumes) takeDown(uid model.UID, parts ...string) error {
	dir, err := volumeplan.PodDir(v.cfg.Root, uid)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := v.takePart(uid, dir, filepath.Join(dir, part)); err != nil {
			return fmt.Errorf("remove volumes of pod %s: %w", uid, err)
		}
	}
	v.deps.Volumes.Delete(uid)
	return nil
}

func (v *Volumes) takePart(uid model.UID, dir, part string) error {
	if there, err := exists(part); err != nil || !there {
		return err
	}
	v.deps.Volumes.Set(uid, &model.PodVolumes{UID: uid, Message: "being removed"})
	err := mount.UnmountBelow(dir)
	if err == nil {
		err = mount.RemoveTree(part)
	}
	if err != nil {
		v.deps.Volumes.Set(uid, &model.PodVolumes{UID: uid, Message: "being removed: " + err.Error()})
	}
	return err
}
