package agent

import (
	"context"

	"nodelet/bench/area"
	"nodelet/bench/result"
)

const (
	external = "nodelet"
	embedded = "nodelet embedded"
	upstream = "kubelet"
	raw      = "raw CRI calls"
	alone    = "runc alone"
)

// Names of figures.
const (
	oneP50      = "pod, API write → Ready seen, one at a time, p50"
	oneP99      = "pod, API write → Ready seen, one at a time, p99"
	atOnce      = "%d pods at once"
	noticed     = "container killed → seen in the API"
	restarted   = "container killed → running again"
	goneHeeded  = "pod deleted with grace 1 s, SIGTERM heeded → gone"
	goneIgnored = "pod deleted with grace 1 s, SIGTERM ignored → gone"
	cpuIdle     = "CPU with %d idle pods"
	memIdle     = "memory (PSS) with %d idle pods"
	cpuBoth     = "CPU with %d idle pods, runtime included"
	memBoth     = "memory (PSS) with %d idle pods, runtime included (no shims)"
)

// Area is a node with the pods most nodes have.
func Area() *area.Area {
	goal := func(g result.Goal) map[string]result.Goal { return map[string]result.Goal{"": g} }
	f := func(name, unit string, g result.Goal) *result.Figure {
		return &result.Figure{Name: name, Unit: unit, Quantile: .5, Goals: goal(g)}
	}
	slow := f(oneP99, "ms", result.Goal{Times: 1})
	slow.Quantile = .99
	one, again := f(oneP50, "ms", result.Goal{Limit: 160, Floor: 1.15, Times: 1}), f(restarted, "ms", result.Goal{Limit: 120})
	one.Floors = map[string][]string{external: {raw, alone}, embedded: {raw, alone}}
	many, hundred := f(sized(atOnce, 30), "pods/s", result.Goal{Floor: .9, Times: 1}), f(sized(atOnce, 100), "pods/s", result.Goal{Floor: .9, Times: 1})
	many.More, hundred.More = true, true
	return &area.Area{
		Name: "agent",
		Contestants: []result.Contestant{
			{Name: external, Role: result.Ours}, {Name: embedded, Role: result.Ours}, {Name: upstream, Role: result.Peer},
			{Name: raw, Role: result.Floor}, {Name: alone, Role: result.Floor},
		},
		Figures: []*result.Figure{
			one, slow, many, hundred,
			f(noticed, "ms", result.Goal{Limit: 20}), again,
			f(goneHeeded, "ms", result.Goal{Limit: 250}), f(goneIgnored, "ms", result.Goal{Limit: 1250}),
			f(sized(cpuIdle, 30), "% of a core", result.Goal{Times: 1}), f(sized(memIdle, 30), "MB", result.Goal{Times: 2}),
			f(sized(cpuBoth, 30), "% of a core", result.Goal{Times: 1}), f(sized(memBoth, 30), "MB", result.Goal{Times: 1}),
			f(sized(cpuIdle, 100), "% of a core", result.Goal{Limit: .4}), f(sized(memIdle, 100), "MB", result.Goal{Times: 2}),
			f(sized(cpuBoth, 100), "% of a core", result.Goal{Times: 1}), f(sized(memBoth, 100), "MB", result.Goal{Times: 1}),
		},
		Peers: []string{"kubelet"},
		Tools: []string{"containerd", "ctr", "runc"},
		Turns: func(o area.Options) []area.Turn {
			var out []area.Turn
			for round := range o.Runs {
				for _, who := range []string{raw, external, upstream, embedded} {
					out = append(out, area.Turn{Who: who, Round: round, Size: o.Size, Quick: o.Quick})
				}
			}
			return out
		},
		Measure: func(ctx context.Context, n *area.Node, t area.Turn) error {
			if t.Who == raw {
				return floor(ctx, n, t)
			}
			return measure(ctx, n, t, func(ctx context.Context, m *turn) error {
				if t.Size != 0 {
					return m.each(ctx, m.warm, m.crowds(t.Size, t.Size, t.Size))
				}
				return m.each(ctx, m.singles, m.stubborn, m.crowds(30, 100))
			})
		},
	}
}

// Full is the area of a node with as many pods as a node has by default, and
// with as many as its range of addresses allows.
func Full() *area.Area {
	a := &area.Area{
		Name: "pods", Extra: true,
		Contestants: []result.Contestant{
			{Name: external, Role: result.Ours}, {Name: embedded, Role: result.Ours}, {Name: upstream, Role: result.Peer},
		},
		Peers: []string{"kubelet"},
		Tools: []string{"containerd", "ctr", "runc"},
		Turns: func(o area.Options) []area.Turn {
			var out []area.Turn
			for round := range o.Runs {
				for _, who := range []string{external, upstream, embedded} {
					out = append(out, area.Turn{Who: who, Round: round, Size: o.Size, Quick: o.Quick})
				}
			}
			return out
		},
		Measure: func(ctx context.Context, n *area.Node, t area.Turn) error {
			return measure(ctx, n, t, func(ctx context.Context, m *turn) error { return m.each(ctx, m.crowds(110, 250)) })
		},
	}
	for _, size := range []int{110, 250} {
		for _, f := range []struct{ name, unit string }{
			{atOnce, "pods/s"}, {cpuIdle, "% of a core"}, {memIdle, "MB"}, {cpuBoth, "% of a core"}, {memBoth, "MB"},
		} {
			a.Figures = append(a.Figures, &result.Figure{
				Name: sized(f.name, size), Unit: f.unit, Quantile: .5, More: f.name == atOnce, Goals: map[string]result.Goal{"": {Times: 1}},
			})
		}
	}
	return a
}
