package proxy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/bench/area"
	"nodelet/bench/lab"
	"nodelet/bench/result"
)

// The objects of a large cluster.
const (
	scaleServices = 10_000
	scaleNodes    = 1000
)

// Names of the figures of Scale.
const (
	scaleStart  = "program started → last service answers"
	scaleMemory = "memory (PSS) at the end"
	scaleSlope  = "memory that an hour of this would add"
	scaleCPU    = "CPU at 100 endpoint changes a second"
	scaleChange = "API write → new connection reaches the new back end, afterwards"
)

// Scale is the area of a large cluster that changes all the time, for as long as
// Options.Long says: 10,000 Services with 25 endpoints each, 1,000 Nodes, 100
// changed EndpointSlices a second.
func Scale() *area.Area {
	return &area.Area{
		Name: "scale", Extra: true,
		Contestants: []result.Contestant{
			{Name: nodeletBPF, Role: result.Ours}, {Name: nodeletNFT, Role: result.Ours}, {Name: upstreamLegacy, Role: result.Peer},
		},
		Figures: []*result.Figure{
			{Name: scaleStart, Unit: "s", Quantile: .5, Goals: map[string]result.Goal{"": {Times: 1}}},
			{Name: scaleMemory, Unit: "MB", Quantile: .5, Goals: map[string]result.Goal{"": {Times: 1}}},
			{Name: scaleSlope, Unit: "MB/h", Quantile: .5, Goals: map[string]result.Goal{"": {Limit: 5}}},
			{Name: scaleCPU, Unit: "% of a core", Quantile: .5, Goals: map[string]result.Goal{"": {Times: 1}}},
			{Name: scaleChange, Unit: "ms", Quantile: .5, Goals: map[string]result.Goal{"": {Limit: 5}}},
		},
		Peers: []string{"kube-proxy"},
		Tools: []string{"nft", "iptables-legacy-restore", "conntrack"},
		Turns: func(o area.Options) []area.Turn {
			var out []area.Turn
			for _, who := range []string{nodeletBPF, nodeletNFT, upstreamLegacy} {
				out = append(out, area.Turn{Who: who, Size: scaleServices, Quick: o.Quick, Long: o.Long})
			}
			return out
		},
		Measure: scale,
	}
}

func scale(ctx context.Context, n *area.Node, t area.Turn) error {
	if err := errors.Join(n.OwnCgroup(), serve(ctx, n)); err != nil {
		return err
	}
	endpoints := 25
	if t.Quick {
		t.Size, endpoints = 1000, 2
	}
	w, err := newWorld(t.Size, endpoints)
	if err != nil {
		return err
	}
	defer w.api.Close()
	if err := errors.Join(w.fill(), w.nodes(scaleNodes)); err != nil {
		return err
	}
	m := &turn{Turn: t, node: n, world: w}
	begin := time.Now()
	if m.process, err = start(n, t.Who, w.api.URL()); err != nil {
		return err
	}
	defer m.process.Stop()
	if err := errors.Join(m.until(ctx, vip(flipVIP, 80), 0), m.until(ctx, vip(lastVIP, 80), 0)); err != nil {
		return fmt.Errorf("%w\n%s", err, m.process.Log())
	}
	n.Add(scaleStart, t.Who, time.Since(begin).Seconds())
	if err := m.churn(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, m.process.Log())
	}
	took, err := m.change(ctx)
	n.Add(scaleChange, t.Who, float64(took.Microseconds())/1000)
	return err
}

// nodes puts the cluster's other nodes.
func (w *world) nodes(count int) error {
	for i := range count {
		o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("far-%d", i)}}
		o.Spec.PodCIDR = fmt.Sprintf("10.%d.%d.0/24", 64+i>>8, i&255)
		o.Spec.PodCIDRs = []string{o.Spec.PodCIDR}
		o.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("198.18.%d.%d", i>>8, i&255)}}
		if err := w.api.Put(o); err != nil {
			return err
		}
	}
	return nil
}

// churn changes slices all the time and looks at memory twenty times. The first
// fifth is not counted for the slope: heaps find their size in it.
func (m *turn) churn(ctx context.Context) error {
	const looks = 20
	before, err := m.process.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var at, memory []float64
	for i := 0; time.Since(begin) < m.Long && ctx.Err() == nil; i++ {
		<-tick.C
		which := i * 7919 % (m.Size - 2)
		if err := m.world.api.Put(m.world.slice(which, i/(m.Size-2)&1^1)); err != nil {
			return err
		}
		if elapsed := time.Since(begin); elapsed >= m.Long*time.Duration(len(at)+1)/looks {
			pss, err := lab.PSS(m.process.PID())
			if err != nil {
				return err
			}
			at, memory = append(at, elapsed.Hours()), append(memory, pss/1e6)
			m.node.Note("%s: %.1f MB", elapsed.Round(time.Second), pss/1e6)
		}
	}
	took := time.Since(begin)
	after, err := m.process.CPU()
	if err != nil {
		return err
	}
	m.node.Add(scaleCPU, m.Who, 100*(after-before).Seconds()/took.Seconds())
	if len(memory) > looks/5+1 {
		m.node.Add(scaleMemory, m.Who, memory[len(memory)-1])
		m.node.Add(scaleSlope, m.Who, slope(at[looks/5:], memory[looks/5:]))
	}
	return ctx.Err()
}

// slope is that of the straight line with the least squares.
func slope(x, y []float64) float64 {
	var sx, sy, sxx, sxy float64
	n := float64(len(x))
	for i := range x {
		sx, sy, sxx, sxy = sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
	}
	if d := n*sxx - sx*sx; d != 0 && !math.IsNaN(d) {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
