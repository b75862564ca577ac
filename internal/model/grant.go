package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Grant is what a pod has to itself: devices of plugins, and CPUs. A pod that
// asks for none of it has no grant.
type Grant struct {
	UID UID
	// Rejected: what the pod asks for cannot be given; Reason and Message are those of its status.
	Rejected        bool
	Reason, Message string
	// Containers by name; one without anything to itself is not in it.
	Containers map[string]ContainerGrant
}

// HasCPUs tells whether a container of the pod has CPUs to itself; a pod without grant has none.
func (g *Grant) HasCPUs() bool {
	if g != nil {
		for _, c := range g.Containers {
			if c.CPUs != "" {
				return true
			}
		}
	}
	return false
}

// ContainerGrant is what one container has to itself, and how it gets it.
type ContainerGrant struct {
	// CPUs as the kernel writes a list, such as 2-3,6; empty: those that nobody has to itself.
	CPUs string
	// Devices by resource.
	Devices map[string][]Device
	// The rest is what the plugins want the container to be made with.
	Env, Annotations map[string]string
	Mounts           []GrantMount
	Nodes            []GrantNode
	// CDI are names of CDI devices, such as vendor.com/class=name.
	CDI []string
}

// Device is a device of a plugin.
type Device struct {
	ID string
	// NUMA are the nodes that it is near to; none: it does not matter.
	NUMA []int64
	// Unhealthy: the plugin says so since, or is gone.
	Unhealthy bool `json:",omitempty"`
}

// GrantMount is a path of the host in the container.
type GrantMount struct {
	ContainerPath, HostPath string
	ReadOnly                bool
}

// GrantNode is a device node; Permissions of r, w and m.
type GrantNode struct {
	ContainerPath, HostPath, Permissions string
}

// String is one line: pod, then each container with what it has.
func (g *Grant) String() string {
	if g.Rejected {
		return fmt.Sprintf("%s rejected: %s: %s", g.UID, g.Reason, g.Message)
	}
	parts := []string{g.UID.String()}
	for _, name := range slices.Sorted(maps.Keys(g.Containers)) {
		c := g.Containers[name]
		part := name
		if c.CPUs != "" {
			part += " cpus=" + c.CPUs
		}
		for _, resource := range slices.Sorted(maps.Keys(c.Devices)) {
			var ids []string
			for _, d := range c.Devices[resource] {
				id := d.ID
				if d.Unhealthy {
					id += "(unhealthy)"
				}
				ids = append(ids, id)
			}
			part += " " + resource + "=" + strings.Join(ids, ",")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}
