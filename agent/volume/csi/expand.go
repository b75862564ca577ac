package csi

import (
	"context"
	"encoding/json"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
)

// grows reports whether the volume has become larger than the claim says it is.
func (j *job) grows() bool {
	if j.Bound == nil || j.Bound.Volume == nil || j.Bound.Claim == nil {
		return false
	}
	size, now := j.Bound.Volume.Spec.Capacity[corev1.ResourceStorage], j.Bound.Claim.Status.Capacity[corev1.ResourceStorage]
	return !now.IsZero() && size.Cmp(now) > 0
}

// expand lets the driver grow the file system to the size of its volume, and tells the claim.
func (j *job) expand(ctx context.Context) error {
	if !j.grows() || j.Volume.ReadOnly || !j.driver.can(csipb.NodeServiceCapability_RPC_EXPAND_VOLUME) {
		return nil
	}
	secrets, err := j.secret(ctx, j.Volume.CSI.ExpandSecret)
	if err != nil {
		return err
	}
	size := j.Bound.Volume.Spec.Capacity[corev1.ResourceStorage]
	_, err = call(ctx, j.driver, "NodeExpandVolume", j.driver.node.NodeExpandVolume, &csipb.NodeExpandVolumeRequest{
		VolumeId: j.rec.Handle, VolumePath: j.rec.Target, StagingTargetPath: j.staged,
		CapacityRange: &csipb.CapacityRange{RequiredBytes: size.Value()}, VolumeCapability: j.capability(), Secrets: secrets,
	})
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": j.Bound.Claim.UID}, "status": map[string]any{
		"capacity": map[string]any{"storage": size.String()},
		"conditions": []map[string]any{
			{"type": corev1.PersistentVolumeClaimFileSystemResizePending, "$patch": "delete"},
			{"type": corev1.PersistentVolumeClaimResizing, "$patch": "delete"},
		},
		"allocatedResourceStatuses": map[string]any{"storage": nil},
	}})
	if err != nil {
		return err
	}
	if _, err := j.deps.API.PatchClaimStatus(ctx, j.Bound.Key, patch); err != nil {
		j.deps.Log.Warn("tell the new size of a claim, again at the next look", "claim", j.Bound.Key, "err", err)
	}
	return nil
}
