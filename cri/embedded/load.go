package embedded

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/pkg/timeout"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
)

// boltOpen names containerd's time-out for opening its database; the default waits for ever. The
// root's lock is held by then, so only a foreign containerd on our root could make it expire.
const boltOpen = "io.containerd.timeout.bolt.open"

// plugged is the set of containerd's plugins, initialised in order.
type plugged struct {
	set   *plugin.Set
	order []*plugin.Plugin
	ready *sync.WaitGroup // plugins that finish in the background, which is CRI's recovery

	socket string // told to shims: they report to socket + ttrpcSuffix
}

// load initialises the plugins. It is what containerd's own server.New does, but for two things: any
// plugin that fails is an error, since all of them were chosen, and the instances can be had.
func load(ctx context.Context, config *srvconfig.Config, socket string) (*plugged, error) {
	timeout.Set(boltOpen, 2*time.Second)
	p := &plugged{set: plugin.NewPluginSet(), ready: &sync.WaitGroup{}, socket: socket}
	for _, registration := range registry.Graph(srvconfig.V2DisabledFilter(config.DisabledPlugins)) {
		if err := p.init(ctx, config, registration); err != nil {
			p.close()
			return nil, fmt.Errorf("start containerd's plugin %s, which keeps its data in %s: %w", registration.URI(), config.Root, err)
		}
	}
	return p, nil
}

func (p *plugged) init(ctx context.Context, config *srvconfig.Config, r plugin.Registration) error {
	id := r.URI()
	ic := plugin.NewContext(ctx, p.set, map[string]string{
		plugins.PropertyRootDir:      filepath.Join(config.Root, id),
		plugins.PropertyStateDir:     filepath.Join(config.State, id),
		plugins.PropertyGRPCAddress:  p.socket,
		plugins.PropertyTTRPCAddress: p.socket + ttrpcSuffix,
	})
	ic.RegisterReadiness = func() func() {
		p.ready.Add(1)
		return p.ready.Done
	}
	if r.Config != nil {
		decoded, err := config.Decode(ctx, id, r.Config)
		if err != nil {
			return fmt.Errorf("decode its configuration: %w", err)
		}
		ic.Config = decoded
	}
	result := r.Init(ic)
	if err := p.set.Add(result); err != nil {
		return err
	}
	if _, err := result.Instance(); err != nil {
		if plugin.IsSkipPlugin(err) {
			return nil
		}
		return err
	}
	p.order = append(p.order, result)
	return nil
}

// get is one plugin's instance.
func (p *plugged) get(kind plugin.Type, id string) (any, error) {
	return plugin.NewContext(context.Background(), p.set, nil).GetByID(kind, id)
}

// close closes the plugins, last first. Shims are not touched: none of the plugins closes those.
func (p *plugged) close() {
	for _, pl := range slices.Backward(p.order) {
		instance, err := pl.Instance()
		if err != nil {
			continue
		}
		if closer, ok := instance.(interface{ Close() error }); ok {
			_ = closer.Close() // nothing is left to be done about it
		}
	}
}

// wait waits until the plugins are ready.
func (p *plugged) wait(ctx context.Context, failed <-chan error) error {
	ready := make(chan struct{})
	go func() {
		p.ready.Wait()
		close(ready)
	}()
	select {
	case <-ready:
		return nil
	case err := <-failed:
		return err
	case <-ctx.Done():
		return errors.Join(errors.New("wait for containerd to take up its containers"), ctx.Err())
	}
}
