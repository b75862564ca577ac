// Package dratest is a DRA driver for tests, which behaves or misbehaves as it
// is told. It prepares nothing but the memory of what it was asked to, and the
// names of CDI devices.
//
// Touches: two unix sockets.
package dratest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	healthv1alpha1 "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"
	drav1 "k8s.io/kubelet/pkg/apis/dra/v1"
	drav1beta1 "k8s.io/kubelet/pkg/apis/dra/v1beta1"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Driver is one; its fields are set before Start.
type Driver struct {
	drav1.UnimplementedDRAPluginServer
	registerapi.UnimplementedRegistrationServer
	healthv1alpha1.UnimplementedDRAResourceHealthServer
	Name string
	// Services that it registers with; none: v1.DRAPlugin.
	Services []string
	// OnPrepare and OnUnprepare stand for the usual answers; they may hang until ctx ends.
	OnPrepare   func(context.Context, *drav1.NodePrepareResourcesRequest) (*drav1.NodePrepareResourcesResponse, error)
	OnUnprepare func(context.Context, *drav1.NodeUnprepareResourcesRequest) (*drav1.NodeUnprepareResourcesResponse, error)

	socket          string
	server, watcher *grpc.Server

	mu       sync.Mutex
	prepared map[string]string // claim's UID -> namespace/name
	calls    []string
	failing  error
	health   []*healthv1alpha1.DeviceHealth
	told     chan struct{}
}

// Start listens in dir as <instance>.sock, and speaks v1, v1beta1 and the health API there.
func (d *Driver) Start(dir, instance string) error {
	d.mu.Lock()
	d.told = make(chan struct{})
	if d.prepared == nil {
		d.prepared = map[string]string{}
	}
	d.mu.Unlock()
	if len(d.Services) == 0 {
		d.Services = []string{drav1.DRAPluginService}
	}
	d.socket = filepath.Join(dir, instance+".sock")
	d.server = grpc.NewServer()
	drav1.RegisterDRAPluginServer(d.server, d)
	drav1beta1.RegisterDRAPluginServer(d.server, drav1beta1.V1ServerWrapper{DRAPluginServer: noted{d}})
	healthv1alpha1.RegisterDRAResourceHealthServer(d.server, d)
	return serve(d.server, d.socket)
}

// Register has the driver found in the registry directory of a node.
func (d *Driver) Register(registry string) error {
	d.watcher = grpc.NewServer()
	registerapi.RegisterRegistrationServer(d.watcher, d)
	return serve(d.watcher, filepath.Join(registry, strings.TrimSuffix(filepath.Base(d.socket), ".sock")+"-reg.sock"))
}

func serve(s *grpc.Server, path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() { _ = s.Serve(l) }()
	return nil
}

// Stop ends the driver; its sockets go.
func (d *Driver) Stop() {
	if d.watcher != nil {
		d.watcher.Stop()
	}
	d.server.Stop()
}

// Socket is the one that the driver is called at.
func (d *Driver) Socket() string { return d.socket }

// GetInfo says what the driver is.
func (d *Driver) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{Type: registerapi.DRAPlugin, Name: d.Name, Endpoint: d.socket, SupportedVersions: d.Services}, nil
}

// NotifyRegistrationStatus notes a refusal.
func (d *Driver) NotifyRegistrationStatus(_ context.Context, s *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if !s.GetPluginRegistered() {
		d.note("refused: %s", s.GetError())
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

// Fail has every call fail from now on; nil: none any more.
func (d *Driver) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = err
}

// Calls gives the calls since the last time, in order.
func (d *Driver) Calls() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := strings.Join(d.calls, "; ")
	d.calls = nil
	return out
}

// Prepared are the UIDs of the claims that are, sorted.
func (d *Driver) Prepared() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.prepared))
}

func (d *Driver) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, fmt.Sprintf(format, args...))
}

// noted tells calls of the older version apart.
type noted struct{ *Driver }

// NodePrepareResources is that of v1beta1.
func (n noted) NodePrepareResources(ctx context.Context, q *drav1.NodePrepareResourcesRequest) (*drav1.NodePrepareResourcesResponse, error) {
	n.note("v1beta1")
	return n.Driver.NodePrepareResources(ctx, q)
}

// Device is the CDI name of the only device of a claim.
func Device(driver, uid string) string { return driver + "/test=claim-" + uid }

// NodePrepareResources gives each claim one device, for all its requests.
func (d *Driver) NodePrepareResources(ctx context.Context, q *drav1.NodePrepareResourcesRequest) (*drav1.NodePrepareResourcesResponse, error) {
	d.note("prepare %s", names(q.GetClaims()))
	if d.OnPrepare != nil {
		return d.OnPrepare(ctx, q)
	}
	return d.Answer(q)
}

// Answer is the usual one, for OnPrepare to do more.
func (d *Driver) Answer(q *drav1.NodePrepareResourcesRequest) (*drav1.NodePrepareResourcesResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failing != nil {
		return nil, d.failing
	}
	out := &drav1.NodePrepareResourcesResponse{Claims: map[string]*drav1.NodePrepareResourceResponse{}}
	for _, c := range q.GetClaims() {
		d.prepared[c.GetUid()] = c.GetNamespace() + "/" + c.GetName()
		out.Claims[c.GetUid()] = &drav1.NodePrepareResourceResponse{Devices: []*drav1.Device{{
			PoolName: "pool", DeviceName: "dev-" + c.GetName(), CdiDeviceIds: []string{Device(d.Name, c.GetUid())},
		}}}
	}
	return out, nil
}

// NodeUnprepareResources forgets claims.
func (d *Driver) NodeUnprepareResources(ctx context.Context, q *drav1.NodeUnprepareResourcesRequest) (*drav1.NodeUnprepareResourcesResponse, error) {
	d.note("unprepare %s", names(q.GetClaims()))
	if d.OnUnprepare != nil {
		return d.OnUnprepare(ctx, q)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failing != nil {
		return nil, d.failing
	}
	out := &drav1.NodeUnprepareResourcesResponse{Claims: map[string]*drav1.NodeUnprepareResourceResponse{}}
	for _, c := range q.GetClaims() {
		delete(d.prepared, c.GetUid())
		out.Claims[c.GetUid()] = &drav1.NodeUnprepareResourceResponse{}
	}
	return out, nil
}

func names(claims []*drav1.Claim) string {
	var all []string
	for _, c := range claims {
		all = append(all, c.GetName())
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// Tell says how a device is, for seconds from now.
func (d *Driver) Tell(device string, health healthv1alpha1.HealthStatus, message string, seconds int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.health = []*healthv1alpha1.DeviceHealth{{
		Device: &healthv1alpha1.DeviceIdentifier{PoolName: "pool", DeviceName: device},
		Health: health, Message: message, HealthCheckTimeoutSeconds: seconds,
	}}
	close(d.told)
	d.told = make(chan struct{})
}

// NodeWatchResources tells what Tell says.
func (d *Driver) NodeWatchResources(_ *healthv1alpha1.NodeWatchResourcesRequest, stream healthv1alpha1.DRAResourceHealth_NodeWatchResourcesServer) error {
	for {
		d.mu.Lock()
		report, told := d.health, d.told
		d.mu.Unlock()
		if err := stream.Send(&healthv1alpha1.NodeWatchResourcesResponse{Devices: report}); err != nil {
			return err
		}
		select {
		case <-told:
		case <-stream.Context().Done():
			return nil
		}
	}
}
