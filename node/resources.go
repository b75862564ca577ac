package node

import (
	"time"

	"nodelet/agent/logs"
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
