package podplan

import (
	"maps"
	"slices"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/exclusive/cpuplan"
	"nodelet/agent/exclusive/deviceplan"
)

// granted: the pod has what it asked to have to itself.
func (m *maker) granted() bool {
	if m.grant != nil {
		return true
	}
	for _, c := range deviceplan.Containers(m.obj) {
		if len(deviceplan.Asks(m.obj, c.Container)) > 0 || m.Settings.StaticCPUs && cpuplan.Wants(m.obj, c.Container) > 0 {
			return false
		}
	}
	return true
}

// addGrant puts what a container has to itself into its configuration. What the pod's spec says goes before
// what a plugin says.
func (m *maker) addGrant(c ctr, config *runtimev1.ContainerConfig) {
	resources := config.Linux.Resources
	resources.CpusetCpus = m.Node.SharedCPUs
	if m.grant == nil {
		return
	}
	g, ok := m.grant.Containers[c.Name]
	if !ok {
		return
	}
	if g.CPUs != "" {
		resources.CpusetCpus = g.CPUs
	}
	taken := map[string]bool{}
	for _, e := range config.Envs {
		taken[e.Key] = true
	}
	for _, name := range slices.Sorted(maps.Keys(g.Env)) {
		if !taken[name] {
			config.Envs = append(config.Envs, &runtimev1.KeyValue{Key: name, Value: []byte(g.Env[name])})
		}
	}
	for _, x := range g.Mounts {
		config.Mounts = append(config.Mounts, &runtimev1.Mount{ContainerPath: x.ContainerPath, HostPath: x.HostPath, Readonly: x.ReadOnly})
	}
	for _, x := range g.Nodes {
		config.Devices = append(config.Devices, &runtimev1.Device{ContainerPath: x.ContainerPath, HostPath: x.HostPath, Permissions: x.Permissions})
	}
	for _, name := range g.CDI {
		config.CDIDevices = append(config.CDIDevices, &runtimev1.CDIDevice{Name: name})
	}
	for name, value := range g.Annotations {
		if _, ours := config.Annotations[name]; !ours {
			config.Annotations[name] = value
		}
	}
}
