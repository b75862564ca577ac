package node

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"nodelet/agent/shutdown"
	"nodelet/internal/logind"
)

// shutdownTimes are those of the last shutdown that waited for pods; the next boot's metrics tell of them.
type shutdownTimes struct{ Start, End time.Time }

func (p *agentParts) buildShutdown() error {
	started := p.n.metrics.Gauge("kubelet_graceful_shutdown_start_time_seconds", "When the last graceful shutdown of the node began, in seconds since 1970.")
	ended := p.n.metrics.Gauge("kubelet_graceful_shutdown_end_time_seconds", "When the last pod had ended in it, in seconds since 1970; 0 while it goes on.")
	show := func(t shutdownTimes) {
		started(unixSeconds(t.Start))
		ended(unixSeconds(t.End))
	}
	path := filepath.Join(p.n.cfg.Layout.AgentState(), "shutdown.json")
	var last shutdownTimes
	if raw, err := os.ReadFile(path); err == nil && json.Unmarshal(raw, &last) == nil {
		show(last)
	}
	periods := p.n.cfg.Kubelet.Shutdown.Periods()
	p.shutdown = shutdown.New(shutdown.Config{NodeName: p.n.cfg.NodeName, Periods: periods}, shutdown.Deps{
		Store: p.n.store, End: p.evictor.End, Events: p.events, Changed: p.status.Recheck,
		Connect: func(ctx context.Context) (shutdown.Session, error) {
			s, err := logind.Connect(ctx)
			if err != nil {
				return nil, err // not a nil *Session in an interface
			}
			return s, nil
		},
		Times: func(start, end time.Time) {
			t := shutdownTimes{start, end}
			show(t)
			raw, err := json.Marshal(t)
			if err == nil {
				err = os.WriteFile(path, append(raw, '\n'), 0o600)
			}
			if err != nil {
				p.n.deps.Log.Warn("keep the times of the shutdown for metrics", "err", err)
			}
		},
		Log: p.n.deps.Log, Health: p.n.watchHealthIf(len(periods) > 0, "shutdown"),
	})
	return nil
}

// unixSeconds is a time as metrics have it; 0 for none.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}
