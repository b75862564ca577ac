package csitest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// GetPluginInfo is of the Identity service.
func (d *Driver) GetPluginInfo(context.Context, *csipb.GetPluginInfoRequest) (*csipb.GetPluginInfoResponse, error) {
	return &csipb.GetPluginInfoResponse{Name: d.cfg.Name, VendorVersion: "1"}, nil
}

// GetInfo is of the registration service.
func (d *Driver) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{Type: registerapi.CSIPlugin, Name: d.cfg.Name, Endpoint: d.Endpoint(), SupportedVersions: []string{"1.0.0"}}, nil
}

// NotifyRegistrationStatus is of the registration service.
func (d *Driver) NotifyRegistrationStatus(_ context.Context, s *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	select {
	case d.status <- s:
	default:
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

// NodeGetInfo gives the node's id, topology and limit.
func (d *Driver) NodeGetInfo(context.Context, *csipb.NodeGetInfoRequest) (*csipb.NodeGetInfoResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &csipb.NodeGetInfoResponse{NodeId: d.cfg.NodeID, MaxVolumesPerNode: d.cfg.MaxVolumes}
	if len(d.cfg.Topology) > 0 {
		out.AccessibleTopology = &csipb.Topology{Segments: d.cfg.Topology}
	}
	return out, nil
}

// NodeGetCapabilities gives what the configuration says.
func (d *Driver) NodeGetCapabilities(context.Context, *csipb.NodeGetCapabilitiesRequest) (*csipb.NodeGetCapabilitiesResponse, error) {
	types := []csipb.NodeServiceCapability_RPC_Type{csipb.NodeServiceCapability_RPC_EXPAND_VOLUME, csipb.NodeServiceCapability_RPC_GET_VOLUME_STATS}
	if !d.cfg.NoStage {
		types = append(types, csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME)
	}
	if d.cfg.MountGroup {
		types = append(types, csipb.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP)
	}
	out := &csipb.NodeGetCapabilitiesResponse{}
	for _, t := range types {
		out.Capabilities = append(out.Capabilities, &csipb.NodeServiceCapability{
			Type: &csipb.NodeServiceCapability_Rpc{Rpc: &csipb.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return out, nil
}

// NodeStageVolume binds the volume's directory to the staging path.
func (d *Driver) NodeStageVolume(_ context.Context, r *csipb.NodeStageVolumeRequest) (*csipb.NodeStageVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, path := r.GetVolumeId(), r.GetStagingTargetPath()
	if have, ok := d.staged[id]; ok && have != path {
		return nil, d.breach("stage %s at %s: it is staged at %s", id, path, have)
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return nil, d.breach("stage %s at %s: that is no directory: %v", id, path, err)
	}
	if r.GetVolumeCapability().GetBlock() == nil {
		if err := os.MkdirAll(d.Content(id), 0o755); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if err := bind(d.Content(id), path, false); err != nil {
			return nil, err
		}
	}
	d.staged[id] = path
	return &csipb.NodeStageVolumeResponse{}, nil
}

// NodeUnstageVolume undoes NodeStageVolume.
func (d *Driver) NodeUnstageVolume(_ context.Context, r *csipb.NodeUnstageVolumeRequest) (*csipb.NodeUnstageVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := r.GetVolumeId()
	if n := len(d.published[id]); n > 0 {
		return nil, d.breach("unstage %s: it is published %d times", id, n)
	}
	if err := unbind(r.GetStagingTargetPath(), false); err != nil {
		return nil, err
	}
	delete(d.staged, id)
	return &csipb.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume binds the staged volume, or the volume itself, to the target.
func (d *Driver) NodePublishVolume(_ context.Context, r *csipb.NodePublishVolumeRequest) (*csipb.NodePublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, target := r.GetVolumeId(), r.GetTargetPath()
	ephemeral := r.GetVolumeContext()["csi.storage.k8s.io/ephemeral"] == "true"
	if !d.cfg.NoStage && !ephemeral && d.staged[id] != r.GetStagingTargetPath() {
		return nil, d.breach("publish %s from %q: it is staged at %q", id, r.GetStagingTargetPath(), d.staged[id])
	}
	if r.GetVolumeCapability().GetBlock() != nil {
		if err := d.publishBlock(id, target); err != nil {
			return nil, err
		}
	} else if err := d.publishMount(r, id, target); err != nil {
		return nil, err
	}
	if d.published[id] == nil {
		d.published[id] = map[string]string{}
	}
	d.published[id][target] = r.GetVolumeContext()["csi.storage.k8s.io/pod.uid"]
	d.requests[id] = r
	return &csipb.NodePublishVolumeResponse{}, nil
}

func (d *Driver) publishMount(r *csipb.NodePublishVolumeRequest, id, target string) error {
	for _, dir := range []string{d.Content(id), target} {
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return status.Error(codes.Internal, err.Error())
		}
	}
	if g := r.GetVolumeCapability().GetMount().GetVolumeMountGroup(); g != "" {
		gid, err := strconv.Atoi(g)
		if err != nil {
			return d.breach("publish %s for group %q", id, g)
		}
		if err := os.Chown(d.Content(id), -1, gid); err != nil {
			return status.Error(codes.Internal, err.Error())
		}
	}
	return bind(d.Content(id), target, r.GetReadonly())
}

// publishBlock binds a device, <dir>/volumes/<id>, which the test has made, to the target file.
func (d *Driver) publishBlock(id, target string) error {
	f, err := os.OpenFile(target, os.O_CREATE, 0o600)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	f.Close()
	return bind(d.Content(id), target, false)
}

// NodeUnpublishVolume undoes NodePublishVolume; for a volume that is not published there is nothing to do.
func (d *Driver) NodeUnpublishVolume(_ context.Context, r *csipb.NodeUnpublishVolumeRequest) (*csipb.NodeUnpublishVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !filepath.IsAbs(r.GetTargetPath()) {
		return nil, d.breach("unpublish %s at %q", r.GetVolumeId(), r.GetTargetPath())
	}
	if err := unbind(r.GetTargetPath(), true); err != nil {
		return nil, err
	}
	delete(d.published[r.GetVolumeId()], r.GetTargetPath())
	return &csipb.NodeUnpublishVolumeResponse{}, nil
}

// NodeExpandVolume notes the size.
func (d *Driver) NodeExpandVolume(_ context.Context, r *csipb.NodeExpandVolumeRequest) (*csipb.NodeExpandVolumeResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.published[r.GetVolumeId()]) == 0 && d.staged[r.GetVolumeId()] == "" {
		return nil, d.breach("expand %s: it is not here", r.GetVolumeId())
	}
	d.expanded[r.GetVolumeId()] = r.GetCapacityRange().GetRequiredBytes()
	return &csipb.NodeExpandVolumeResponse{CapacityBytes: r.GetCapacityRange().GetRequiredBytes()}, nil
}

// NodeGetVolumeStats gives constant figures.
func (d *Driver) NodeGetVolumeStats(_ context.Context, r *csipb.NodeGetVolumeStatsRequest) (*csipb.NodeGetVolumeStatsResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.published[r.GetVolumeId()][r.GetVolumePath()]; !ok {
		return nil, status.Error(codes.NotFound, "not published there")
	}
	return &csipb.NodeGetVolumeStatsResponse{Usage: []*csipb.VolumeUsage{
		{Unit: csipb.VolumeUsage_BYTES, Total: 1000, Used: 400, Available: 600},
		{Unit: csipb.VolumeUsage_INODES, Total: 10, Used: 4, Available: 6},
	}}, nil
}
