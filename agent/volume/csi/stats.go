package csi

import (
	"context"
	"path/filepath"
	"strings"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"

	"nodelet/internal/model"
)

// Usage is how full a volume is; fields are 0 where the driver does not say.
type Usage struct {
	Capacity, Used, Available int64 // bytes
	Inodes, InodesUsed        int64
	InodesFree                int64
}

// Stats asks the driver how full a published volume is; ok is false for a
// volume that is no driver's and for a driver that does not say.
func (v *Volumes) Stats(ctx context.Context, pod model.UID, spec string) (u Usage, ok bool, err error) {
	rec, ok := readRecord(v.podRecord(pod, spec))
	if !ok {
		return u, false, nil
	}
	d, err := v.drivers.get(rec.Driver)
	if err != nil {
		return u, false, err
	}
	defer d.release()
	if !d.can(csipb.NodeServiceCapability_RPC_GET_VOLUME_STATS) {
		return u, false, nil
	}
	staged, _ := v.staging(rec)
	got, err := call(ctx, d, "NodeGetVolumeStats", d.node.NodeGetVolumeStats, &csipb.NodeGetVolumeStatsRequest{
		VolumeId: rec.Handle, VolumePath: rec.Target, StagingTargetPath: staged,
	})
	for _, x := range got.GetUsage() {
		switch x.GetUnit() {
		case csipb.VolumeUsage_BYTES:
			u.Capacity, u.Used, u.Available = x.GetTotal(), x.GetUsed(), x.GetAvailable()
		case csipb.VolumeUsage_INODES:
			u.Inodes, u.InodesUsed, u.InodesFree = x.GetTotal(), x.GetUsed(), x.GetAvailable()
		}
	}
	return u, err == nil, err
}

// StatsAt is Stats of what is published at a path, a directory or a block device.
func (v *Volumes) StatsAt(ctx context.Context, published string) (Usage, bool, error) {
	pod, spec, ok := v.publishedAt(published)
	if !ok {
		return Usage{}, false, nil
	}
	return v.Stats(ctx, pod, spec)
}

// publishedAt finds out whose volume is published at a path, by the layout of the directories.
func (v *Volumes) publishedAt(published string) (pod model.UID, spec string, ok bool) {
	rel, err := filepath.Rel(v.cfg.Root, published)
	if err != nil {
		return "", "", false
	}
	if block, found := strings.CutPrefix(rel, filepath.Join(blockPart, "publish")+"/"); found {
		spec, uid, ok := strings.Cut(block, "/")
		return model.UID(uid), spec, ok && !strings.Contains(uid, "/")
	}
	rest, found := strings.CutPrefix(rel, "pods/")
	uid, rest, ok := strings.Cut(rest, "/")
	if !found || !ok {
		return "", "", false
	}
	rest, found = strings.CutPrefix(rest, PodPart+"/")
	spec, last, ok := strings.Cut(rest, "/")
	return model.UID(uid), spec, found && ok && last == "mount"
}
