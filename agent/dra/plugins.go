package dra

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/validation"
	drav1 "k8s.io/kubelet/pkg/apis/dra/v1"
	drav1beta1 "k8s.io/kubelet/pkg/apis/dra/v1beta1"

	"nodelet/agent/dra/draplan"
	"nodelet/internal/model"
)

const (
	// calling bounds one call to a driver; upstream's.
	calling = 45 * time.Second
	// reconnect bounds the wait between attempts to reach a plugin.
	reconnect = 5 * time.Second
)

// plugin is one that has registered. A driver may have several at a time: during an update, the new one
// registers before the old one goes.
type plugin struct {
	driver, socket string
	conn           *grpc.ClientConn
	client         drav1.DRAPluginClient
	// services that it has, as it said.
	services []string
	// answers: it can be reached. health is by pool and device, of the last report. Both under Manager.mu.
	answers bool
	health  map[[2]string]model.DeviceHealth
}

// Register takes a plugin into use; for agent/pluginreg.
func (m *Manager) Register(ctx context.Context, driver, socket string, services []string) error {
	if problems := validation.IsDNS1123Subdomain(driver); len(problems) > 0 || len(driver) > validation.DNS1123LabelMaxLength {
		return fmt.Errorf("%q is no name for a DRA driver: it must be a DNS subdomain of at most %d characters", driver, validation.DNS1123LabelMaxLength)
	}
	p := &plugin{driver: driver, socket: socket, services: services}
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(m.measure(driver)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: .2, MaxDelay: reconnect},
			MinConnectTimeout: reconnect,
		}))
	if err != nil {
		return fmt.Errorf("make connection to DRA plugin %s: %w", socket, err)
	}
	p.conn = conn
	if p.client, err = clientOf(conn, services); err != nil {
		return errors.Join(fmt.Errorf("DRA driver %s: %w", driver, err), conn.Close())
	}
	if err := m.deps.Drivers.Put(driver, KeptDriver{Seen: true}); err != nil {
		return errors.Join(fmt.Errorf("keep that DRA driver %s is here: %w", driver, err), conn.Close())
	}
	if err := m.add(p); err != nil {
		return err
	}
	m.deps.Log.Info("DRA plugin registered", "driver", driver, "socket", socket, "services", services)
	hint(ctx, m.plugins, socket)
	hint(ctx, m.watched, socket)
	hint(ctx, m.inquired, driver)
	return nil
}

// clientOf speaks the first of a plugin's versions that this node knows as well.
func clientOf(conn *grpc.ClientConn, services []string) (drav1.DRAPluginClient, error) {
	for _, s := range services {
		switch s {
		case drav1.DRAPluginService:
			return drav1.NewDRAPluginClient(conn), nil
		case drav1beta1.DRAPluginService:
			return drav1beta1.V1Beta1ClientWrapper{DRAPluginClient: drav1beta1.NewDRAPluginClient(conn)}, nil
		}
	}
	return nil, fmt.Errorf("the plugin has the services %q, this node speaks %s and %s", services, drav1.DRAPluginService, drav1beta1.DRAPluginService)
}

// add puts a plugin behind those that its driver has, in the place of one at the same socket.
func (m *Manager) add(p *plugin) error {
	m.mu.Lock()
	old := m.take(p.driver, p.socket)
	m.registered[p.driver] = append(m.registered[p.driver], p)
	m.judge(p.driver)
	m.mu.Unlock()
	if old == nil {
		return nil
	}
	return old.conn.Close()
}

// take removes the plugin at a socket from those of a driver; mu is held.
func (m *Manager) take(driver, socket string) *plugin {
	all := m.registered[driver]
	i := slices.IndexFunc(all, func(p *plugin) bool { return p.socket == socket })
	if i < 0 {
		return nil
	}
	p := all[i]
	if all = slices.Delete(slices.Clone(all), i, i+1); len(all) > 0 {
		m.registered[driver] = all
	} else {
		delete(m.registered, driver)
	}
	return p
}

// Deregister ends the use of a plugin.
func (m *Manager) Deregister(ctx context.Context, driver, socket string) error {
	m.mu.Lock()
	p := m.take(driver, socket)
	m.judge(driver)
	m.mu.Unlock()
	if p == nil {
		return nil
	}
	m.deps.Log.Info("DRA plugin gone", "driver", driver, "socket", socket)
	err := p.conn.Close()
	m.spread(driver)
	hint(ctx, m.inquired, driver)
	return err
}

// close ends all connections.
func (m *Manager) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, all := range m.registered {
		for _, p := range all {
			_ = p.conn.Close() // nothing is under way: the loops have ended
		}
	}
}

// at finds a plugin by its socket.
func (m *Manager) at(socket string) *plugin {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, all := range m.registered {
		for _, p := range all {
			if p.socket == socket {
				return p
			}
		}
	}
	return nil
}

// pluginOf is the newest plugin of a driver that answers, else the newest one.
func (m *Manager) pluginOf(driver string) (*plugin, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.registered[driver]
	if len(all) == 0 {
		return nil, fmt.Errorf("DRA driver %s is not registered on this node: see whether its pod runs here", driver)
	}
	for _, p := range slices.Backward(all) {
		if p.answers {
			return p, nil
		}
	}
	return all[len(all)-1], nil
}

// follow keeps an eye on whether a plugin can be reached, until it is gone.
func (m *Manager) follow(ctx context.Context, socket string) time.Duration {
	p := m.at(socket)
	if p == nil {
		return 0
	}
	for {
		state := p.conn.GetState()
		m.mu.Lock()
		changed := p.answers != (state == connectivity.Ready)
		p.answers = state == connectivity.Ready
		m.judge(p.driver)
		m.mu.Unlock()
		if changed {
			hint(ctx, m.inquired, p.driver)
			m.wakeWaiting(ctx)
		}
		switch state {
		case connectivity.Idle:
			p.conn.Connect()
		case connectivity.Shutdown:
			if m.at(socket) != nil {
				return time.Millisecond // another has registered in its place
			}
			return 0
		}
		if !p.conn.WaitForStateChange(ctx, state) {
			return 0
		}
	}
}

// wakeWaiting has those looked at again that wait: it may be a plugin that they wait for.
func (m *Manager) wakeWaiting(ctx context.Context) {
	m.mu.Lock()
	uids := slices.Collect(maps.Keys(m.waits))
	m.mu.Unlock()
	for _, uid := range uids {
		hint(ctx, m.pods, uid)
	}
}

// callPrepare has a driver prepare claims, and gives their devices. It is all or nothing, as with upstream.
func (m *Manager) callPrepare(ctx context.Context, call draplan.Call) (map[model.Key][]model.PreparedDevice, error) {
	p, err := m.pluginOf(call.Driver)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, calling)
	defer cancel()
	answer, err := p.client.NodePrepareResources(ctx, &drav1.NodePrepareResourcesRequest{Claims: claimsOf(call)})
	if err != nil {
		return nil, fmt.Errorf("NodePrepareResources of DRA driver %s: %w", call.Driver, err)
	}
	out := map[model.Key][]model.PreparedDevice{}
	for _, r := range call.Claims {
		one := answer.GetClaims()[r.UID.String()]
		switch {
		case one == nil:
			return nil, fmt.Errorf("NodePrepareResources of DRA driver %s skipped ResourceClaim %s", call.Driver, r.Key.Name)
		case one.GetError() != "":
			return nil, fmt.Errorf("NodePrepareResources of DRA driver %s failed for ResourceClaim %s: %s", call.Driver, r.Key.Name, one.GetError())
		}
		for _, d := range one.GetDevices() {
			if slices.ContainsFunc(d.GetCdiDeviceIds(), func(id string) bool { return !strings.Contains(id, "=") }) {
				return nil, fmt.Errorf("NodePrepareResources of DRA driver %s names CDI devices %q for ResourceClaim %s: each must be like vendor.com/class=name", call.Driver, d.GetCdiDeviceIds(), r.Key.Name)
			}
			out[r.Key] = append(out[r.Key], model.PreparedDevice{
				Driver: call.Driver, Pool: d.GetPoolName(), Device: d.GetDeviceName(), Share: d.GetShareId(),
				Requests: d.GetRequestNames(), CDI: d.GetCdiDeviceIds(),
			})
		}
	}
	return out, nil
}

// callUnprepare has a driver take claims back, and gives those with which that failed.
func (m *Manager) callUnprepare(ctx context.Context, call draplan.Call) map[model.Key]error {
	failed := map[model.Key]error{}
	all := func(err error) map[model.Key]error {
		for _, r := range call.Claims {
			failed[r.Key] = err
		}
		return failed
	}
	p, err := m.pluginOf(call.Driver)
	if err != nil {
		return all(err)
	}
	ctx, cancel := context.WithTimeout(ctx, calling)
	defer cancel()
	answer, err := p.client.NodeUnprepareResources(ctx, &drav1.NodeUnprepareResourcesRequest{Claims: claimsOf(call)})
	if err != nil {
		return all(fmt.Errorf("NodeUnprepareResources of DRA driver %s: %w", call.Driver, err))
	}
	for _, r := range call.Claims {
		one, there := answer.GetClaims()[r.UID.String()]
		switch {
		case !there:
			failed[r.Key] = fmt.Errorf("NodeUnprepareResources of DRA driver %s skipped ResourceClaim %s", call.Driver, r.Key.Name)
		case one.GetError() != "":
			failed[r.Key] = fmt.Errorf("NodeUnprepareResources of DRA driver %s failed for ResourceClaim %s: %s", call.Driver, r.Key.Name, one.GetError())
		}
	}
	return failed
}

func claimsOf(call draplan.Call) (all []*drav1.Claim) {
	for _, r := range call.Claims {
		all = append(all, &drav1.Claim{Namespace: r.Key.Namespace, Name: r.Key.Name, Uid: r.UID.String()})
	}
	return all
}

// measure counts the calls to a driver.
func (m *Manager) measure(driver string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		began := time.Now()
		err := call(ctx, method, req, reply, conn, opts...)
		m.deps.Metrics.Called(driver, method, status.Code(err).String(), time.Since(began))
		return err
	}
}
