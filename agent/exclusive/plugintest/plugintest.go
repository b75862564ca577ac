// Package plugintest is a device plugin for tests, which behaves or misbehaves
// as it is told. It knows no devices: what it hands out are names, variables
// and device nodes that every machine has.
//
// Touches: a unix socket, and the one that plugins register at.
package plugintest

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Plugin is one; its fields are set before Start.
type Plugin struct {
	pluginapi.UnimplementedDevicePluginServer
	Resource string
	Options  *pluginapi.DevicePluginOptions
	// OnAllocate, OnPrefer and OnPreStart stand for the usual answers; they may hang until ctx ends.
	OnAllocate func(ctx context.Context, ids []string) (*pluginapi.ContainerAllocateResponse, error)
	OnPrefer   func(ctx context.Context, q *pluginapi.ContainerPreferredAllocationRequest) ([]string, error)
	OnPreStart func(ctx context.Context, ids []string) error

	server *grpc.Server
	socket string

	mu      sync.Mutex
	devices []*pluginapi.Device
	changed chan struct{}
	calls   []string
}

// Start listens in dir, as <resource>.sock.
func (p *Plugin) Start(dir string, healthy ...string) error {
	p.socket = filepath.Join(dir, strings.ReplaceAll(p.Resource, "/", "-")+".sock")
	l, err := net.Listen("unix", p.socket)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.changed = make(chan struct{})
	p.mu.Unlock()
	p.Set(healthy, nil)
	p.server = grpc.NewServer()
	pluginapi.RegisterDevicePluginServer(p.server, p)
	go func() { _ = p.server.Serve(l) }()
	return nil
}

// Stop ends the plugin; its socket goes.
func (p *Plugin) Stop() { p.server.Stop() }

// Register tells the node of the plugin; version is the one it says to speak.
func (p *Plugin) Register(ctx context.Context, version string) error {
	return Register(ctx, filepath.Join(filepath.Dir(p.socket), "kubelet.sock"), &pluginapi.RegisterRequest{
		Version: version, Endpoint: filepath.Base(p.socket), ResourceName: p.Resource, Options: p.Options,
	})
}

// Register sends any request to the socket where plugins register.
func Register(ctx context.Context, socket string, q *pluginapi.RegisterRequest) error {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = pluginapi.NewRegistrationClient(conn).Register(ctx, q, grpc.WaitForReady(true))
	return err
}

// Set changes which devices there are. One whose name ends in @1 is near to NUMA node 1, all others to node 0.
func (p *Plugin) Set(healthy, broken []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices = nil
	for _, id := range healthy {
		p.devices = append(p.devices, &pluginapi.Device{ID: id, Health: pluginapi.Healthy, Topology: &pluginapi.TopologyInfo{Nodes: []*pluginapi.NUMANode{{ID: nodeOf(id)}}}})
	}
	for _, id := range broken {
		p.devices = append(p.devices, &pluginapi.Device{ID: id, Health: pluginapi.Unhealthy})
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func nodeOf(id string) int64 {
	_, at, _ := strings.Cut(id, "@")
	node, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return 0
	}
	return node
}

// Calls gives the calls since the last time, in order.
func (p *Plugin) Calls() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := strings.Join(p.calls, "; ")
	p.calls = nil
	return out
}

func (p *Plugin) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, fmt.Sprintf(format, args...))
}

// GetDevicePluginOptions tells what else the plugin wants to be asked.
func (p *Plugin) GetDevicePluginOptions(context.Context, *pluginapi.Empty) (*pluginapi.DevicePluginOptions, error) {
	if p.Options == nil {
		return &pluginapi.DevicePluginOptions{}, nil
	}
	return p.Options, nil
}

// ListAndWatch tells of the devices, and again at each Set.
func (p *Plugin) ListAndWatch(_ *pluginapi.Empty, stream pluginapi.DevicePlugin_ListAndWatchServer) error {
	for {
		p.mu.Lock()
		list, changed := p.devices, p.changed
		p.mu.Unlock()
		if err := stream.Send(&pluginapi.ListAndWatchResponse{Devices: list}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// Allocate names the devices in the variable DEVICES.
func (p *Plugin) Allocate(ctx context.Context, q *pluginapi.AllocateRequest) (*pluginapi.AllocateResponse, error) {
	out := &pluginapi.AllocateResponse{}
	for _, c := range q.GetContainerRequests() {
		p.note("allocate %s", strings.Join(c.GetDevicesIds(), " "))
		one := &pluginapi.ContainerAllocateResponse{Envs: map[string]string{"DEVICES": strings.Join(c.GetDevicesIds(), " ")}}
		if p.OnAllocate != nil {
			var err error
			if one, err = p.OnAllocate(ctx, c.GetDevicesIds()); err != nil {
				return nil, err
			}
		}
		if one != nil {
			out.ContainerResponses = append(out.ContainerResponses, one)
		}
	}
	return out, nil
}

// GetPreferredAllocation prefers what it is told to.
func (p *Plugin) GetPreferredAllocation(ctx context.Context, q *pluginapi.PreferredAllocationRequest) (*pluginapi.PreferredAllocationResponse, error) {
	out := &pluginapi.PreferredAllocationResponse{}
	for _, c := range q.GetContainerRequests() {
		p.note("prefer %d of %s", c.GetAllocationSize(), strings.Join(c.GetAvailableDeviceIDs(), " "))
		ids, err := p.OnPrefer(ctx, c)
		if err != nil {
			return nil, err
		}
		out.ContainerResponses = append(out.ContainerResponses, &pluginapi.ContainerPreferredAllocationResponse{DeviceIDs: ids})
	}
	return out, nil
}

// PreStartContainer prepares devices.
func (p *Plugin) PreStartContainer(ctx context.Context, q *pluginapi.PreStartContainerRequest) (*pluginapi.PreStartContainerResponse, error) {
	p.note("prepare %s", strings.Join(q.GetDevicesIds(), " "))
	if p.OnPreStart != nil {
		if err := p.OnPreStart(ctx, q.GetDevicesIds()); err != nil {
			return nil, err
		}
	}
	return &pluginapi.PreStartContainerResponse{}, nil
}
