package podplan

import (
	"fmt"
	"path/filepath"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// devices gives the block volumes of a container. The runtime puts them into
// the container's device cgroup with the same permissions.
func (m *maker) devices(c ctr) ([]*runtimev1.Device, error) {
	var all []*runtimev1.Device
	for _, d := range c.VolumeDevices {
		if !filepath.IsAbs(d.DevicePath) {
			return nil, &configError{fmt.Sprintf("devicePath %q of volume %q must be an absolute path", d.DevicePath, d.Name)}
		}
		host, ok := m.volumes().Devices[d.Name]
		if !ok {
			return nil, &configError{fmt.Sprintf("cannot find volume %q to pass into container %q", d.Name, c.Name)}
		}
		permissions := "mrw"
		if m.readOnlyVolume(d.Name) {
			permissions = "r"
		}
		all = append(all, &runtimev1.Device{ContainerPath: d.DevicePath, HostPath: host, Permissions: permissions})
	}
	return all, nil
}
