package exclusive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"nodelet/internal/model"
)

const (
	// asking bounds small questions to a plugin, allocating the call that may do real work, preparing is
	// upstream's limit of PreStartContainer.
	asking     = 10 * time.Second
	allocating = time.Minute
	preparing  = pluginapi.KubeletPreStartContainerRPCTimeoutInSecs * time.Second
	// largestList is the most that a plugin may say at once: tens of thousands of devices.
	largestList = 16 << 20
)

// plugin is what is known of the plugin of one resource.
type plugin struct {
	endpoint string
	devices  map[string]device
	options  *pluginapi.DevicePluginOptions
	// client talks to the plugin as long as it is connected; nil otherwise.
	client pluginapi.DevicePluginClient
	// left is when it was last connected; zero: it never was, by this process.
	left time.Time
	// resumed: the devices are those that an earlier process saw, and count until then.
	resumed time.Time
	// cancel ends the connection, for a plugin that registers anew; nil without one.
	cancel context.CancelFunc
}

type device struct {
	Healthy bool
	NUMA    []int64 `json:",omitempty"`
}

// KeptPlugin is what outlives the daemon of a plugin.
type KeptPlugin struct {
	Endpoint string
	Devices  map[string]device
	// PreStart: the plugin prepares its devices before each start of a container.
	PreStart bool `json:",omitempty"`
}

func (k KeptPlugin) restore() *plugin {
	return &plugin{endpoint: k.Endpoint, devices: k.Devices, options: &pluginapi.DevicePluginOptions{PreStartRequired: k.PreStart}, resumed: time.Now().Add(returning), left: time.Now()}
}

// healthy are the devices that can be given.
func (p *plugin) healthy(now time.Time) map[string]bool {
	out := map[string]bool{}
	if p.client == nil && !now.Before(p.resumed) {
		return out
	}
	for id, d := range p.devices {
		if d.Healthy {
			out[id] = true
		}
	}
	return out
}

// counts: the plugin is there, or went not long ago.
func (p *plugin) counts(now time.Time) bool { return p.client != nil || now.Sub(p.left) < lost }

// connect takes a plugin that has registered into use, in the place of one that did before.
func (m *Manager) connect(ctx context.Context, resource, endpoint string) {
	m.mu.Lock()
	p := m.plugins[resource]
	if p == nil {
		p = &plugin{}
		m.plugins[resource] = p
	}
	p.endpoint = endpoint
	if p.cancel != nil {
		p.cancel()
	}
	m.mu.Unlock()
	m.deps.Metrics.Registered(resource)
	m.deps.Log.Info("device plugin registered", "resource", resource, "socket", endpoint)
	select {
	case m.hints <- resource:
	case <-ctx.Done():
	}
}

// follow keeps a connection to the plugin of a resource for as long as there is one.
func (m *Manager) follow(ctx context.Context, resource string) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	p := m.plugins[resource]
	if p == nil {
		m.mu.Unlock()
		return 0, nil
	}
	p.cancel = cancel
	endpoint := p.endpoint
	m.mu.Unlock()
	err := m.listen(ctx, resource, endpoint)
	m.mu.Lock()
	was := p.client != nil
	if was {
		p.client, p.left, p.resumed = nil, time.Now(), time.Time{}
	}
	p.cancel = nil
	moved, resumed, left := p.endpoint != endpoint, p.resumed, p.left
	m.mu.Unlock()
	m.judge()
	m.deps.Changed()
	now := time.Now()
	switch {
	case moved:
		return time.Millisecond, nil // it has registered anew meanwhile
	case now.Before(resumed):
		return min(time.Second, resumed.Sub(now)), nil // as before the daemon's restart: it may be starting itself
	case was:
		m.deps.Log.Warn("device plugin is gone, its devices count as broken", "resource", resource, "err", err)
		return time.Second, nil
	case !errors.Is(err, errGone):
		return 0, err
	case now.Sub(left) < lost:
		return left.Add(lost).Sub(now), nil // the node's status has news then
	}
	return 0, nil
}

// listen asks a plugin for its options and takes in its devices until the connection ends.
func (m *Manager) listen(ctx context.Context, resource, endpoint string) error {
	if _, err := os.Stat(endpoint); errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	conn, err := grpc.NewClient("unix:"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestList)))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := pluginapi.NewDevicePluginClient(conn)
	limited, cancel := context.WithTimeout(ctx, asking)
	options, err := client.GetDevicePluginOptions(limited, &pluginapi.Empty{})
	cancel()
	if err != nil {
		return fmt.Errorf("ask device plugin of %s for its options: %w", resource, err)
	}
	stream, err := client.ListAndWatch(ctx, &pluginapi.Empty{})
	if err != nil {
		return fmt.Errorf("watch devices of %s: %w", resource, err)
	}
	for {
		list, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("watch devices of %s: %w", resource, err)
		}
		m.took(resource, options, client, list.GetDevices())
	}
}

// took takes in a list of devices.
func (m *Manager) took(resource string, options *pluginapi.DevicePluginOptions, client pluginapi.DevicePluginClient, list []*pluginapi.Device) {
	devices := make(map[string]device, len(list))
	for _, d := range list {
		if d.GetID() == "" {
			m.deps.Log.Warn("a device plugin names a device without an id, going on without it", "resource", resource)
			continue
		}
		one := device{Healthy: d.GetHealth() == pluginapi.Healthy}
		for _, n := range d.GetTopology().GetNodes() {
			one.NUMA = append(one.NUMA, n.GetID())
		}
		devices[d.GetID()] = one
	}
	m.mu.Lock()
	p := m.plugins[resource]
	p.devices, p.options, p.client = devices, options, client
	kept := KeptPlugin{Endpoint: p.endpoint, Devices: devices, PreStart: options.GetPreStartRequired()}
	m.mu.Unlock()
	if err := m.deps.KeepPlugins.Put(resource, kept); err != nil {
		m.deps.Log.Warn("keep what is known of a device plugin, a restart now would forget it", "resource", resource, "err", err)
	}
	m.judge()
	m.deps.Changed()
}

// socketOf is the path of a plugin's socket by the name it registered with.
func (m *Manager) socketOf(name string) (string, error) {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") || name == socketName {
		return "", fmt.Errorf("endpoint %q must be the name of a socket in %s", name, m.cfg.Dir)
	}
	return filepath.Join(m.cfg.Dir, name), nil
}

// devicesOf are devices by their ids, with what is known of them.
func (p *plugin) devicesOf(ids []string) (out []model.Device) {
	for _, id := range ids {
		out = append(out, model.Device{ID: id, NUMA: p.devices[id].NUMA})
	}
	return out
}
