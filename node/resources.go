package node

import (
	"time"

	"nodelet/agent/logs"
	"nodelet/agent/stats"
	"nodelet/internal/metrics"
)

// Resources says how the agent keeps what pods use within bounds. Zero values mean upstream's; the
// names are those of KubeletConfiguration.
type Resources struct {
	// ContainerLogMaxSize in bytes; negative: logs are not rotated.
	ContainerLogMaxSize         int64
	ContainerLogMaxFiles        int
	ContainerLogMaxWorkers      int
	ContainerLogMonitorInterval time.Duration
}

func (p *agentParts) buildLogs() (err error) {
	c := &p.n.cfg
	p.logs, err = logs.New(logs.Config{
		PodLogsRoot: c.Layout.PodLogs(), MaxSize: c.Resources.ContainerLogMaxSize, MaxFiles: c.Resources.ContainerLogMaxFiles,
		Workers: c.Resources.ContainerLogMaxWorkers, Monitor: c.Resources.ContainerLogMonitorInterval,
	}, logs.Deps{Store: p.n.store, Runtime: p.runtime, Log: p.n.deps.Log, Health: p.n.watchHealth("rotate logs")})
	return err
}

func (p *agentParts) buildStats() error {
	c := &p.n.cfg
	p.stats = stats.New(stats.Config{
		KubeletRoot: c.Layout.KubeletRoot(), PodLogsRoot: c.Layout.PodLogs(), PodsCgroup: "/" + c.cgroups().Root,
		EmbeddedRuntime: c.RuntimeEndpoint == "",
	}, stats.Deps{Store: p.n.store, Cgroups: p.cgroups, Runtime: p.runtime, Log: p.n.deps.Log, Health: p.n.watchHealth("stats")})
	p.n.metrics.VolumeStats(func() []metrics.VolumeStats {
		var all []metrics.VolumeStats
		for _, c := range p.stats.Claims() {
			all = append(all, metrics.VolumeStats{
				Namespace: c.Namespace, Claim: c.Claim, Capacity: c.Space.Capacity, Available: c.Space.Available, Used: c.Space.Used,
				Inodes: c.Space.InodesAll, InodesFree: c.Space.InodesFree, InodesUsed: c.Space.InodesUsed,
			})
		}
		return all
	})
	return nil
}
