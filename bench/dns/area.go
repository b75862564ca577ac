package dns

import (
	"context"
	"fmt"
	"path/filepath"

	"nodelet/bench/area"
	"nodelet/bench/lab"
	"nodelet/bench/result"
	"nodelet/internal/stubapi"
)

const (
	ours         = "nodelet"
	coreUncached = "CoreDNS, kubeadm's Corefile"
	coreCached   = "CoreDNS, cache on"
	echo         = "UDP echo"
)

// usual is how much is measured when nobody wants it quick.
func usual() options { return options{services: 10_000, seconds: 5, rate: 50_000, changes: 100} }

// Names of figures.
const (
	perCPU    = "queries answered per second of the server's processor time"
	perSecond = "queries a second, as fast as they come"
	beside50  = "answer beside 50,000 queries a second, p50"
	beside99  = "answer beside 50,000 queries a second, p99"
	added     = "anonymous memory that 10,000 services add"
	resident  = "resident memory with 10,000 services"
	change50  = "EndpointSlice written → new answer, p50"
	change99  = "EndpointSlice written → new answer, p99"
)

// Area is this package's.
func Area() *area.Area {
	goal := func(g result.Goal) map[string]result.Goal { return map[string]result.Goal{"": g} }
	return &area.Area{
		Name: "dns",
		Contestants: []result.Contestant{
			{Name: ours, Role: result.Ours}, {Name: coreUncached, Role: result.Peer}, {Name: coreCached, Role: result.Peer},
			{Name: echo, Role: result.Floor},
		},
		Figures: []*result.Figure{
			{Name: perCPU, Unit: "1/s", More: true, Quantile: .5, Goals: goal(result.Goal{Times: 2.8, Than: map[string]float64{coreUncached: 5}})},
			{Name: perSecond, Unit: "1/s", More: true, Quantile: .5, Goals: goal(result.Goal{Times: 1})},
			{Name: beside50, Unit: "µs", Quantile: .5, Goals: goal(result.Goal{Times: 1})},
			{Name: beside99, Unit: "µs", Quantile: .5, Goals: goal(result.Goal{Times: 3})},
			{Name: added, Unit: "MB", Quantile: .5, Goals: goal(result.Goal{Limit: 12})},
			{Name: resident, Unit: "MB", Quantile: .5, Goals: goal(result.Goal{Times: 1})},
			{Name: change50, Unit: "ms", Quantile: .5, Goals: goal(result.Goal{Times: 1})},
			{Name: change99, Unit: "ms", Quantile: .5, Goals: goal(result.Goal{Limit: 5})},
			{Name: zoneWork, Unit: "µs", Quantile: .5, Goals: goal(result.Goal{Limit: 1000})},
			{Name: zoneSize, Unit: "MB", Quantile: .5, Goals: goal(result.Goal{Limit: 12})},
			{Name: overVeth, Unit: "µs", Quantile: .5, Goals: goal(result.Goal{Than: map[string]float64{coreUncached: 20}})},
			{Name: inKernel, Unit: "µs", Quantile: .5},
		},
		Peers: []string{"coredns"},
		Tools: []string{"dnsperf"},
		Turns: func(o area.Options) []area.Turn {
			var out []area.Turn
			for round := range o.Runs {
				for _, who := range []string{echo, ours, coreUncached, coreCached} {
					out = append(out, area.Turn{Who: who, Round: round, Quick: o.Quick})
				}
			}
			return out
		},
		Measure: measure,
	}
}

func measure(ctx context.Context, n *area.Node, t area.Turn) error {
	p := programs{nodelet: filepath.Join(n.Bin, "nodelet"), coreDNS: filepath.Join(n.Peers, "coredns")}
	s := start{addr: nodeletAddr, run: p.startNodelet}
	if corefile, ok := map[string]string{coreUncached: uncached, coreCached: cached}[t.Who]; ok {
		s = start{addr: coreAddr, run: func(dir string, api *stubapi.Server, upstream string) (*lab.Process, error) {
			return p.startCoreDNS(dir, api, upstream, corefile)
		}}
	}
	o := usual()
	if t.Quick {
		o.services, o.seconds, o.changes = 1000, 1, 10
	}
	if t.Who == echo {
		return floor(n, o)
	}
	r, err := measureServer(n.Dir, o, s)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Who, err)
	}
	for figure, v := range map[string]float64{
		perCPU: r.perCPUSecond, perSecond: r.perSecond, beside50: r.p50, beside99: r.p99,
		added: mb(r.full) - mb(r.empty), resident: mb(r.rss), change50: r.changeP50 / 1000, change99: r.changeP99 / 1000,
	} {
		n.Add(figure, t.Who, v)
	}
	switch t.Who {
	case ours:
		return inside(ctx, n, t)
	case coreUncached:
		n.Add(overVeth, t.Who, 1e6/r.perCPUSecond)
	}
	return nil
}

func mb(n uint64) float64 { return float64(n) / 1e6 }
