package csi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// uniqueName is how the attach controller calls a volume.
func uniqueName(id string) corev1.UniqueVolumeName {
	return corev1.UniqueVolumeName("kubernetes.io/csi/" + id)
}

// attach makes sure that the volume is attached to this node: the controller
// says so in the node's status, which it takes back before it detaches, and
// the attacher in its VolumeAttachment.
func (j *job) attach(ctx context.Context) error {
	if !j.rec.Attach {
		return nil
	}
	node, err := j.deps.API.GetNode(ctx, j.cfg.NodeName)
	if err != nil {
		return fmt.Errorf("look for the volume in the status of node %s: %w", j.cfg.NodeName, err)
	}
	listed := slices.ContainsFunc(node.Status.VolumesAttached, func(a corev1.AttachedVolume) bool { return a.Name == uniqueName(j.rec.id()) })
	if !listed && !j.Volume.CSI.LimitMoves {
		return j.notListed()
	}
	a, err := j.deps.API.GetVolumeAttachment(ctx, j.rec.Attachment)
	if err == nil && !a.Status.Attached {
		if err := j.exhausted(ctx, a.Status.AttachError); err != nil {
			return err
		}
	}
	switch {
	case !listed:
		return j.notListed()
	case apierrors.IsNotFound(err):
		return fmt.Errorf("volume %s: %w: VolumeAttachment %s does not exist", j.rec.Spec, ErrNotAttached, j.rec.Attachment)
	case err != nil:
		return fmt.Errorf("get VolumeAttachment %s: %w", j.rec.Attachment, err)
	case a.DeletionTimestamp != nil:
		return fmt.Errorf("volume %s: %w: VolumeAttachment %s is being deleted", j.rec.Spec, ErrNotAttached, a.Name)
	case !a.Status.Attached && a.Status.AttachError != nil:
		return fmt.Errorf("attach volume %s: %s", j.rec.Spec, a.Status.AttachError.Message)
	case !a.Status.Attached:
		return fmt.Errorf("volume %s: %w: VolumeAttachment %s says so", j.rec.Spec, ErrNotAttached, a.Name)
	}
	j.context = a.Status.AttachmentMetadata
	j.waits.forget(j.rec.waitKey())
	return nil
}

func (j *job) notListed() error {
	return fmt.Errorf("volume %s: %w: node %s does not have it in status.volumesAttached", j.rec.Spec, ErrNotAttached, j.cfg.NodeName)
}

// noLongerAttached gives the volume of a driver that attaches no more free to be detached: the attach
// controller waits for that. have is the record of the pod, if that is done.
func (j *job) noLongerAttached(ctx context.Context, have record, done bool) error {
	if j.rec.Attach || !j.inUse.has(j.rec.id()) {
		return nil
	}
	if done && have.Attach {
		have.Attach = false
		if err := writeRecord(j.podRecord(j.rec.pod, j.rec.Spec), have); err != nil {
			return err
		}
	}
	if err := j.keepAttached(j.rec); err != nil {
		return err
	}
	j.inUse.remove(j.rec.id())
	return j.reportInUse(ctx)
}

// inUse are the volumes that must not be detached from this node.
type inUse struct {
	mu       sync.Mutex
	ids      map[string]bool
	reported []corev1.UniqueVolumeName
	// one report at a time, so that the last one tells the truth
	sending sync.Mutex
}

func (u *inUse) add(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ids == nil {
		u.ids = map[string]bool{}
	}
	u.ids[id] = true
}

func (u *inUse) remove(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.ids, id)
}

func (u *inUse) has(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ids[id]
}

func (u *inUse) names() []corev1.UniqueVolumeName {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]corev1.UniqueVolumeName, 0, len(u.ids))
	for _, id := range slices.Sorted(maps.Keys(u.ids)) {
		out = append(out, uniqueName(id))
	}
	return out
}

// reportInUse brings status.volumesInUse of the node up to date.
func (v *Volumes) reportInUse(ctx context.Context) error {
	v.inUse.sending.Lock()
	defer v.inUse.sending.Unlock()
	names := v.inUse.names()
	if v.inUse.reported != nil && slices.Equal(names, v.inUse.reported) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"volumesInUse": names}})
	if err != nil {
		return err
	}
	if _, err := v.deps.API.PatchNodeStatus(ctx, v.cfg.NodeName, patch); err != nil {
		return fmt.Errorf("report volumes in use of node %s: %w", v.cfg.NodeName, err)
	}
	v.inUse.reported = names
	return nil
}
