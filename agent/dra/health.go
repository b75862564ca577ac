package dra

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	healthv1 "k8s.io/kubelet/pkg/apis/dra-health/v1"
	healthv1alpha1 "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"

	"nodelet/internal/model"
)

const (
	// stale is for how long what a driver says of a device holds where it does not say; upstream's.
	stale = 30 * time.Second
	// rewatch is the wait before a driver that ended its report is asked again; upstream's.
	rewatch = 5 * time.Second
)

// watch takes in what a plugin tells of the health of its devices (KEP-4680), until it ends.
func (m *Manager) watch(ctx context.Context, socket string) time.Duration {
	p := m.at(socket)
	if p == nil {
		return 0
	}
	err := m.listen(ctx, p)
	m.mu.Lock()
	known := len(p.health) > 0
	p.health = nil
	m.mu.Unlock()
	if known {
		m.spread(p.driver)
	}
	switch {
	case ctx.Err() != nil, m.at(socket) == nil, m.at(socket) == p && status.Code(err) == codes.Unimplemented:
		return 0 // it does not tell
	case m.at(socket) != p:
		return time.Millisecond // another has registered in its place
	}
	m.deps.Log.Debug("watch health of devices", "driver", p.driver, "err", err, "retryIn", rewatch)
	return rewatch
}

// listen takes in one stream of reports.
func (m *Manager) listen(ctx context.Context, p *plugin) error {
	client := healthv1.DRAResourceHealthClient(healthv1.V1Alpha1ClientWrapper{Client: healthv1alpha1.NewDRAResourceHealthClient(p.conn)})
	if slices.Contains(p.services, healthv1.DRAResourceHealthService) {
		client = healthv1.NewDRAResourceHealthClient(p.conn)
	}
	stream, err := client.NodeWatchResources(ctx, &healthv1.NodeWatchResourcesRequest{})
	if err != nil {
		return err
	}
	for {
		report, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m.heard(p, report)
		hint(ctx, m.inquired, p.driver) // to look again when this is too old
	}
}

// heard takes in one report, which names all devices.
func (m *Manager) heard(p *plugin, report *healthv1.NodeWatchResourcesResponse) {
	now := time.Now()
	next := map[[2]string]model.DeviceHealth{}
	for _, d := range report.GetDevices() {
		h := model.DeviceHealth{Message: d.GetMessage(), Until: now.Add(stale)}
		if s := d.GetHealthCheckTimeoutSeconds(); s > 0 {
			h.Until = now.Add(time.Duration(min(s, 1<<31)) * time.Second)
		}
		switch d.GetHealth() {
		case healthv1.HealthStatus_HEALTHY:
			h.Health = model.Healthy
		case healthv1.HealthStatus_UNHEALTHY:
			h.Health = model.Unhealthy
		}
		next[[2]string{d.GetDevice().GetPoolName(), d.GetDevice().GetDeviceName()}] = h
	}
	m.mu.Lock()
	defer m.spread(p.driver)
	defer m.mu.Unlock()
	for key, h := range p.health { // of what is not named the last word holds until its time
		if _, ok := next[key]; !ok && now.Before(h.Until) {
			next[key] = h
		}
	}
	p.health = next
}

// expire forgets what was said of devices too long ago, and gives the time until more of it is that old; 0: never.
func (m *Manager) expire(driver string) (next time.Duration) {
	now, old := time.Now(), false
	m.mu.Lock()
	for _, p := range m.registered[driver] {
		for key, h := range p.health {
			left := h.Until.Sub(now)
			switch {
			case left <= 0:
				delete(p.health, key)
				old = true
			case next == 0 || left < next:
				next = left
			}
		}
	}
	m.mu.Unlock()
	if old {
		m.spread(driver)
	}
	return next
}

// healthOf is the last word on a device, of the newest plugin that has one; mu is held.
func (m *Manager) healthOf(d *model.PreparedDevice) model.DeviceHealth {
	for _, p := range slices.Backward(m.registered[d.Driver]) {
		if h, ok := p.health[[2]string{d.Pool, d.Device}]; ok && time.Now().Before(h.Until) {
			return h
		}
	}
	return model.DeviceHealth{}
}

// spread tells anew what the pods have that use a driver's devices.
func (m *Manager) spread(driver string) {
	for _, r := range m.known() {
		if slices.Contains(r.Drivers, driver) {
			for _, uid := range r.Pods {
				m.publish(uid)
			}
		}
	}
}
