package whole

import (
	"context"
	"time"

	"nodelet/bench/area"
	"nodelet/bench/result"
)

const (
	ours = "nodelet"
	peer = "upstream"
)

// Names of figures.
const (
	toReady      = "clean start → Node Ready"
	toDNS        = "clean start → answer of the cluster DNS"
	again        = "later start → Node Ready and an answer of the cluster DNS"
	toPod        = "clean start → first pod Ready"
	nodeMemory   = "node: memory (PSS)"
	nodeCPU      = "node: CPU"
	planeMemory  = "control plane: memory (PSS)"
	planeCPU     = "control plane: CPU"
	planeStart   = "control plane alone: clean start → /readyz"
	createOne    = "ConfigMaps created, one client"
	createMany   = "ConfigMaps created, 8 clients"
	createCPU    = "processor time of one create, 8 clients"
	memoryLoaded = "control plane: memory (PSS) after those creates"
)

func goal(g result.Goal) map[string]result.Goal { return map[string]result.Goal{"": g} }

func turns(o area.Options) []area.Turn {
	var out []area.Turn
	for round := range o.Runs {
		out = append(out, area.Turn{Who: ours, Round: round, Quick: o.Quick}, area.Turn{Who: peer, Round: round, Quick: o.Quick})
	}
	return out
}

func newArea(name string, measure func(context.Context, *area.Node, area.Turn) error, figures ...*result.Figure) *area.Area {
	return &area.Area{
		Name: name, Contestants: []result.Contestant{{Name: ours, Role: result.Ours}, {Name: peer, Role: result.Peer}},
		Figures: figures, Turns: turns, Measure: measure,
		Peers: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns"},
		Tools: []string{"containerd", "ctr", "runc"},
	}
}

// Boot is the area of starting.
func Boot() *area.Area {
	return newArea("boot", boot,
		&result.Figure{Name: toReady, Unit: "s", Quantile: .5, Goals: goal(result.Goal{Limit: 3, Times: 1})},
		&result.Figure{Name: toDNS, Unit: "s", Quantile: .5, Goals: goal(result.Goal{Limit: 2.5})},
		&result.Figure{Name: again, Unit: "s", Quantile: .5, Goals: goal(result.Goal{Limit: 2})},
		&result.Figure{Name: toPod, Unit: "s", Quantile: .5, Goals: goal(result.Goal{Limit: 6, Times: 1})})
}

// Idle is the area of doing nothing.
func Idle() *area.Area {
	return newArea("idle", idle,
		&result.Figure{Name: nodeMemory, Unit: "MB", Quantile: .5, Goals: goal(result.Goal{Limit: 70, Times: 1})},
		&result.Figure{Name: nodeCPU, Unit: "% of a core", Quantile: .5, Goals: goal(result.Goal{Limit: .3})},
		&result.Figure{Name: planeMemory, Unit: "MB", Quantile: .5, Goals: goal(result.Goal{Limit: 190, Times: 1})},
		&result.Figure{Name: planeCPU, Unit: "% of a core", Quantile: .5, Goals: goal(result.Goal{Limit: 1.5})})
}

// API is the area of the control planes alone.
func API() *area.Area {
	same := goal(result.Goal{Times: 1})
	return newArea("api", api,
		&result.Figure{Name: planeStart, Unit: "s", Quantile: .5, Goals: same},
		&result.Figure{Name: planeMemory, Unit: "MB", Quantile: .5, Goals: goal(result.Goal{Limit: 190, Times: 1})},
		&result.Figure{Name: planeCPU, Unit: "% of a core", Quantile: .5, Goals: goal(result.Goal{Limit: 1.5})},
		&result.Figure{Name: createOne, Unit: "1/s", More: true, Quantile: .5, Goals: same},
		&result.Figure{Name: createMany, Unit: "1/s", More: true, Quantile: .5, Goals: same},
		&result.Figure{Name: createCPU, Unit: "ms", Quantile: .5, Goals: same},
		&result.Figure{Name: memoryLoaded, Unit: "MB", Quantile: .5, Goals: same})
}

// times are how long things are left alone, and looked at. The first minute of a start is no idle time:
// caches fill, and what the start left is given back.
func times(quick bool) (settle, over time.Duration) {
	if quick {
		return 2 * time.Second, 3 * time.Second
	}
	return 40 * time.Second, 30 * time.Second
}
