package exclusive

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"nodelet/internal/model"
)

// add puts a plugin's answer into a grant. Plugins run with the node's own rights, but a mistake
// of one must not reach the runtime as something else.
func add(c *model.ContainerGrant, resource string, a *pluginapi.ContainerAllocateResponse) error {
	for name, value := range a.GetEnvs() {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return fmt.Errorf("device plugin of %s wants an environment variable named %q", resource, name)
		}
		c.Env[name] = value
	}
	for name, value := range a.GetAnnotations() {
		c.Annotations[name] = value
	}
	for _, x := range a.GetMounts() {
		if !filepath.IsAbs(x.GetContainerPath()) || !filepath.IsAbs(x.GetHostPath()) {
			return fmt.Errorf("device plugin of %s wants %q mounted at %q: both must be absolute paths", resource, x.GetHostPath(), x.GetContainerPath())
		}
		c.Mounts = append(c.Mounts, model.GrantMount{ContainerPath: x.GetContainerPath(), HostPath: x.GetHostPath(), ReadOnly: x.GetReadOnly()})
	}
	for _, x := range a.GetDevices() {
		if !filepath.IsAbs(x.GetHostPath()) || strings.Trim(x.GetPermissions(), "rwm") != "" {
			return fmt.Errorf("device plugin of %s wants device %q with permissions %q: it must be an absolute path, with permissions of r, w and m", resource, x.GetHostPath(), x.GetPermissions())
		}
		c.Nodes = append(c.Nodes, model.GrantNode{ContainerPath: x.GetContainerPath(), HostPath: x.GetHostPath(), Permissions: x.GetPermissions()})
	}
	for _, x := range a.GetCdiDevices() {
		if x.GetName() == "" {
			return fmt.Errorf("device plugin of %s names a CDI device %q", resource, x.GetName())
		}
		c.CDI = append(c.CDI, x.GetName())
	}
	return nil
}

// PreStart tells the plugins of a container that it is about to start, where they want to know.
func (m *Manager) PreStart(ctx context.Context, uid model.UID, container string) error {
	m.mu.Lock()
	grant := m.grants[uid]
	calls := map[string]pluginapi.DevicePluginClient{}
	ids := map[string][]string{}
	if grant != nil {
		for resource, devices := range grant.Containers[container].Devices {
			p := m.plugins[resource]
			if p == nil || !p.options.GetPreStartRequired() {
				continue
			}
			calls[resource] = p.client
			for _, d := range devices {
				ids[resource] = append(ids[resource], d.ID)
			}
		}
	}
	m.mu.Unlock()
	for resource, client := range calls {
		if client == nil {
			return fmt.Errorf("the device plugin of %s has to prepare the container, and is gone", resource)
		}
		limited, cancel := context.WithTimeout(ctx, preparing)
		_, err := client.PreStartContainer(limited, &pluginapi.PreStartContainerRequest{DevicesIds: ids[resource]})
		cancel()
		if err != nil {
			return fmt.Errorf("device plugin PreStartContainer rpc failed with err: %w", err)
		}
	}
	return nil
}
