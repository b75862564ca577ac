package csi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
)

// ErrNotExpanded says that the volume is there as it was, and could not be expanded. The pod goes on with it.
var ErrNotExpanded = errors.New("volume not expanded")

// known is the size that this node knows the pod's volume to have, zero where it has noted none.
func (r record) known() resource.Quantity {
	q, err := resource.ParseQuantity(r.Size)
	if err != nil {
		return resource.Quantity{}
	}
	return q
}

// told is the size that the claim says its volume has, as text; empty when it says none.
func told(c *model.Claim) string {
	if c == nil || c.Claim == nil {
		return ""
	}
	if q, ok := c.Claim.Status.Capacity[corev1.ResourceStorage]; ok {
		return q.String()
	}
	return ""
}

// grows reports whether the volume has become larger than it is known to be here, by what was last read of the claim.
func (j *job) grows(known resource.Quantity) bool {
	e := volumeplan.Expand(j.Bound, known)
	return e.Call && !j.Volume.ReadOnly && j.driver.can(csipb.NodeServiceCapability_RPC_EXPAND_VOLUME) && !j.declined.has(j.rec.id(), e.Size)
}

// expand lets the driver grow the file system to the size of its volume, tells the claim, and notes the
// size in the job's record.
func (j *job) expand(ctx context.Context, known resource.Quantity) error {
	if !j.grows(known) {
		return nil
	}
	claim, err := j.deps.API.GetClaim(ctx, j.Bound.Key)
	if err != nil {
		return err
	}
	e := volumeplan.Expand(claim, known)
	if !e.Call || claim.Claim.UID != j.Bound.Claim.UID {
		return nil // it has been done meanwhile
	}
	version := claim.Claim.ResourceVersion
	if e.Begin {
		changed, err := j.tell(ctx, version, map[string]any{
			"allocatedResourceStatuses": map[string]any{"storage": corev1.PersistentVolumeClaimNodeResizeInProgress},
		})
		if err != nil {
			return err
		}
		version = changed.ResourceVersion
	}
	start := time.Now()
	err = j.callExpand(ctx, e.Size)
	j.deps.Measured(plugin, "volume_fs_resize", time.Since(start), err)
	if err != nil {
		return j.notExpanded(ctx, claim, e, err)
	}
	if e.Finish {
		if err := j.tellExpanded(ctx, version, e.Size); err != nil {
			return err
		}
	}
	j.rec.Size = e.Size.String()
	text := fmt.Sprintf("MountVolume.NodeExpandVolume succeeded for volume %q %s", j.rec.Spec, j.cfg.NodeName)
	for _, ref := range []corev1.ObjectReference{j.podRef(), claimRef(claim.Claim)} {
		j.deps.Event(ref, corev1.EventTypeNormal, "FileSystemResizeSuccessful", text)
	}
	return nil
}

func (j *job) callExpand(ctx context.Context, size resource.Quantity) error {
	secrets, err := j.secret(ctx, j.Volume.CSI.ExpandSecret)
	if err != nil {
		return err
	}
	_, err = call(ctx, j.driver, "NodeExpandVolume", j.driver.node.NodeExpandVolume, &csipb.NodeExpandVolumeRequest{
		VolumeId: j.rec.Handle, VolumePath: j.rec.Target, StagingTargetPath: j.staged,
		CapacityRange: &csipb.CapacityRange{RequiredBytes: size.Value()}, VolumeCapability: j.capability(), Secrets: secrets,
	})
	return err
}

// tellExpanded says that the claim has its new size, and nothing more of how it came to it.
func (j *job) tellExpanded(ctx context.Context, version string, size resource.Quantity) error {
	var over []map[string]any
	for _, c := range []corev1.PersistentVolumeClaimConditionType{
		corev1.PersistentVolumeClaimResizing, corev1.PersistentVolumeClaimFileSystemResizePending,
		corev1.PersistentVolumeClaimControllerResizeError, corev1.PersistentVolumeClaimNodeResizeError,
	} {
		over = append(over, map[string]any{"type": c, "$patch": "delete"})
	}
	_, err := j.tell(ctx, version, map[string]any{
		"capacity": map[string]any{"storage": size.String()}, "conditions": over, "allocatedResourceStatuses": map[string]any{"storage": nil},
	})
	return err
}

// tell patches the status of the claim, if that is still of this version; any when it is empty.
func (j *job) tell(ctx context.Context, version string, part map[string]any) (*corev1.PersistentVolumeClaim, error) {
	meta := map[string]any{"uid": j.Bound.Claim.UID}
	if version != "" {
		meta["resourceVersion"] = version
	}
	patch, err := json.Marshal(map[string]any{"metadata": meta, "status": part})
	if err != nil {
		return nil, err
	}
	claim, err := j.deps.API.PatchClaimStatus(ctx, j.Bound.Key, patch)
	if err != nil {
		return nil, fmt.Errorf("write status of claim %s: %w", j.Bound.Key, err)
	}
	return claim, nil
}

// notExpanded tells the claim what the driver has refused for good (KEP-1790), so that the controller may
// go on with a size that the user sets then.
func (j *job) notExpanded(ctx context.Context, claim *model.Claim, e volumeplan.Expansion, err error) error {
	code := status.Code(err)
	hopeless := e.Hopeless || code == codes.InvalidArgument || code == codes.OutOfRange || code == codes.NotFound
	if e.Recovers && final(err) && (hopeless || !volumeplan.FailedBefore(claim.Claim)) {
		part := map[string]any{"conditions": []corev1.PersistentVolumeClaimCondition{{
			Type: corev1.PersistentVolumeClaimNodeResizeError, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
			Message: fmt.Sprintf("failed to expand pvc with %v", err),
		}}}
		if hopeless {
			part["allocatedResourceStatuses"] = map[string]any{"storage": corev1.PersistentVolumeClaimNodeResizeInfeasible}
		}
		if _, err := j.tell(ctx, "", part); err != nil {
			j.deps.Log.Warn("tell that a volume cannot be expanded", "claim", j.Bound.Key, "err", err)
		}
	}
	if code != codes.FailedPrecondition {
		return fmt.Errorf("NodeExpandVolume: %w", err)
	}
	// The driver does not expand what is in use: the next pod finds the volume not in use.
	j.declined.add(j.rec.id(), e.Size)
	j.deps.Log.Warn("a volume in use is not expanded, pods go on with it", "pod", j.rec.pod, "volume", j.rec.Spec, "err", err)
	return nil
}

// stillSmall says that a volume that is there has not grown.
func (j *job) stillSmall(err error) error {
	j.deps.Event(j.podRef(), corev1.EventTypeWarning, "VolumeResizeFailed", fmt.Sprintf("NodeExpandVolume.NodeExpandVolume failed for volume %q : %v", j.rec.Spec, err))
	return fmt.Errorf("%w: %w", ErrNotExpanded, err)
}

func (j *job) podRef() corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: j.Pod.Namespace, Name: j.Pod.Name, UID: j.Pod.UID}
}

func claimRef(c *corev1.PersistentVolumeClaim) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID}
}

// declined are the sizes to which drivers do not expand volumes while these are in use.
type declined struct {
	mu   sync.Mutex
	size map[string]string
}

func (d *declined) add(id string, size resource.Quantity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.size == nil {
		d.size = map[string]string{}
	}
	d.size[id] = size.String()
}

func (d *declined) has(id string, size resource.Quantity) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.size[id] == size.String()
}

func (d *declined) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.size, id)
}
