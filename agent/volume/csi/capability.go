package csi

import (
	"strconv"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"
)

// capability says how the pod uses the volume, in the words of CSI.
func (j *job) capability() *csipb.VolumeCapability {
	c := j.Volume.CSI
	out := &csipb.VolumeCapability{AccessMode: &csipb.VolumeCapability_AccessMode{
		Mode: accessMode(c.AccessMode, j.driver.can(csipb.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER)),
	}}
	if c.Block {
		out.AccessType = &csipb.VolumeCapability_Block{Block: &csipb.VolumeCapability_BlockVolume{}}
		return out
	}
	m := &csipb.VolumeCapability_MountVolume{FsType: c.FSType, MountFlags: c.Options}
	if c.Group >= 0 && j.driver.can(csipb.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP) {
		m.VolumeMountGroup = strconv.FormatInt(c.Group, 10)
	}
	out.AccessType = &csipb.VolumeCapability_Mount{Mount: m}
	return out
}

// accessMode translates; drivers that know several writers on a node are told which is meant.
func accessMode(m corev1.PersistentVolumeAccessMode, knowsWriters bool) csipb.VolumeCapability_AccessMode_Mode {
	switch m {
	case corev1.ReadWriteOnce:
		if knowsWriters {
			return csipb.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
		}
		return csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	case corev1.ReadWriteOncePod:
		if knowsWriters {
			return csipb.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
		}
		return csipb.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	case corev1.ReadOnlyMany:
		return csipb.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	case corev1.ReadWriteMany:
		return csipb.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	}
	return csipb.VolumeCapability_AccessMode_UNKNOWN
}
