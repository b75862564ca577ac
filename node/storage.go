package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/pluginreg"
	"nodelet/agent/stats"
	"nodelet/agent/volume"
	"nodelet/agent/volume/csi"
)

// buildVolumes makes the volume part with the CSI drivers, and the registry in which these are found.
func (p *agentParts) buildVolumes() (err error) {
	root := p.n.cfg.Layout.KubeletRoot()
	measure := p.n.metrics.Storage()
	drivers := csi.New(csi.Config{Root: root, NodeName: p.n.cfg.NodeName}, csi.Deps{
		API: p.n.client, Log: p.n.deps.Log, Event: p.events.Event, Called: measure.Driver, Measured: measure.Operation, Health: p.n.watchHealth("unstage volumes"), LimitHealth: p.n.watchHealth("volume limits"),
	})
	p.drivers = drivers
	p.plugins = pluginreg.New(pluginreg.Config{Dir: filepath.Join(root, "plugins_registry")}, pluginreg.Deps{
		Store: p.n.store, Handlers: map[string]pluginreg.Handler{pluginreg.CSIPlugin: drivers, pluginreg.DevicePlugin: p.exclusive.Handler(), pluginreg.DRAPlugin: p.dra},
		Log: p.n.deps.Log, Health: p.n.watchHealth("plugins"),
	})
	p.volumes, err = volume.New(volume.Config{Root: root, NodeName: p.n.cfg.NodeName}, volume.Deps{
		Store: p.n.store, Volumes: p.n.writers.Volumes, Tokens: p.n.client, Certificates: p.n.client, Events: p.events, CSI: drivers, Measured: measure.Operation, Removed: p.n.metrics.OrphanVolumes(), Rejected: p.podMetrics.Rejected,
		Allocatable: func() corev1.ResourceList { return p.allocatable }, Log: p.n.deps.Log, Health: p.n.watchHealth("volumes"),
	})
	if err == nil {
		p.n.metrics.PodCertificates(p.volumes.EachPodCertificate)
	}
	return err
}

// driverSpace asks CSI drivers how full their volumes are.
type driverSpace struct{ p *agentParts }

// VolumeSpace implements stats.Drivers.
func (d driverSpace) VolumeSpace(ctx context.Context, path string) (*stats.Space, bool) {
	u, ok, err := d.p.drivers.StatsAt(ctx, path)
	if err != nil {
		d.p.n.deps.Log.Debug("ask a CSI driver how full a volume is, going by its file system", "path", path, "err", err)
	}
	if !ok || err != nil {
		return nil, false
	}
	n := func(v int64) uint64 { return uint64(max(v, 0)) }
	return &stats.Space{
		At: time.Now(), Capacity: n(u.Capacity), Used: n(u.Used), Available: n(u.Available),
		InodesAll: n(u.Inodes), InodesUsed: n(u.InodesUsed), InodesFree: n(u.InodesFree),
	}, true
}

// runPlugins takes plugins into use once the node is registered: they say things about the Node object.
func (p *agentParts) runPlugins(ctx context.Context) error {
	// Drivers mount these directories, and look for each other's sockets below the first.
	for _, dir := range []string{"plugins", "plugins_registry"} {
		if err := os.MkdirAll(filepath.Join(p.n.cfg.Layout.KubeletRoot(), dir), 0o750); err != nil {
			return fmt.Errorf("create directory of plugins: %w", err)
		}
	}
	select {
	case <-p.status.Registered():
	case <-ctx.Done():
		return nil
	}
	return p.plugins.Run(ctx)
}
