package exclusive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/validation"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"nodelet/agent/exclusive/deviceplan"
)

// socketName is where plugins register; they register again when it is made anew.
const socketName = "kubelet.sock"

// registrar answers plugins that register by themselves.
type registrar struct {
	pluginapi.UnimplementedRegistrationServer
	m   *Manager
	ctx context.Context
}

// serve listens for plugins until ctx ends.
func (m *Manager) serve(ctx context.Context) error {
	if err := checkDir(m.cfg.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(m.cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("make directory of device plugins: %w", err)
	}
	path := filepath.Join(m.cfg.Dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket of an earlier process: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listen for device plugins: %w", err)
	}
	server := grpc.NewServer()
	pluginapi.RegisterRegistrationServer(server, &registrar{m: m, ctx: ctx})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve device plugins: %w", err)
	}
	return nil
}

// Register takes a plugin into use that has called.
func (r *registrar) Register(_ context.Context, q *pluginapi.RegisterRequest) (*pluginapi.Empty, error) {
	endpoint, err := r.m.socketOf(q.GetEndpoint())
	if err == nil {
		err = check(q.GetResourceName(), []string{q.GetVersion()})
	}
	if err != nil {
		r.m.deps.Log.Warn("a device plugin was refused", "resource", q.GetResourceName(), "err", err)
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	r.m.connect(r.ctx, q.GetResourceName(), endpoint)
	return &pluginapi.Empty{}, nil
}

// check says why a plugin cannot be taken into use.
func check(resource string, versions []string) error {
	if !slices.Contains(versions, pluginapi.Version) {
		return fmt.Errorf("device plugin of %s speaks %v, this node %s", resource, versions, pluginapi.Version)
	}
	if problems := validation.IsQualifiedName(resource); !deviceplan.Extended(resource) || len(problems) > 0 {
		return fmt.Errorf("%q is no name for a resource of a device plugin: it must be like vendor.com/device, of a domain that is not Kubernetes' own", resource)
	}
	return nil
}

// Handler takes plugins into use that were found in the plugin registry; their name is that of the resource.
type Handler struct{ m *Manager }

// Handler is for agent/pluginreg.
func (m *Manager) Handler() Handler { return Handler{m} }

// Register takes a plugin into use.
func (h Handler) Register(ctx context.Context, name, endpoint string, versions []string) error {
	if err := check(name, versions); err != nil {
		return err
	}
	h.m.connect(ctx, name, endpoint)
	return nil
}

// Deregister ends the use of a plugin: its devices count as broken from now on.
func (h Handler) Deregister(_ context.Context, name, endpoint string) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if p := h.m.plugins[name]; p != nil && p.endpoint == endpoint && p.cancel != nil {
		p.cancel()
	}
	return nil
}
