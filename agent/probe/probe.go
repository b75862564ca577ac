package probe

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/handler"
	"nodelet/agent/probe/probeplan"
	"nodelet/internal/keep"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// tries is how often a probe that could not be run is tried again at once, as upstream does.
const tries = 3

// Handlers runs one probe once; *handler.Handlers does.
type Handlers interface {
	Probe(ctx context.Context, t handler.Target, p *corev1.Probe) handler.Result
}

// Events tells users what happens to their pods; it never blocks.
type Events interface {
	Event(ref corev1.ObjectReference, eventType, reason, message string)
}

// Metrics counts the probes that ran; metrics.Probes does, by wiring. It never blocks.
type Metrics interface {
	// Ran: one probe came to an outcome after that time.
	Ran(pod *corev1.Pod, key model.ProbeKey, outcome handler.Outcome, took time.Duration)
	// Forget: there is no such probe any more.
	Forget(key model.ProbeKey)
}

// Deps are the seams.
type Deps struct {
	Store    *store.Store
	Probes   *store.Writer[model.ProbeKey, *model.Probe]
	Handlers Handlers
	Events   Events
	// NodeIP is where pods with the host's network are reached; invalid while unknown.
	NodeIP func() netip.Addr
	// Metrics may be nil.
	Metrics Metrics
	// Keep holds for the next process what this one knows, Before is what the last one did; both may be nil.
	Keep   keep.Keeper[Kept]
	Before map[string]Kept
	Log    *slog.Logger
	Health *reconcile.Health
}

// Probes is the probe part of the agent.
type Probes struct {
	deps  Deps
	start time.Time

	mu     sync.Mutex
	states map[model.ProbeKey]probeplan.State
}

// New makes the probe part; Run does the work.
func New(deps Deps) (*Probes, error) {
	if deps.NodeIP == nil {
		deps.NodeIP = func() netip.Addr { return netip.Addr{} }
	}
	if deps.Metrics == nil {
		deps.Metrics = uncounted{}
	}
	if deps.Keep == nil {
		deps.Keep = keep.None[Kept]{}
	}
	return &Probes{deps: deps, states: map[model.ProbeKey]probeplan.State{}}, nil
}

type uncounted struct{}

func (uncounted) Ran(*corev1.Pod, model.ProbeKey, handler.Outcome, time.Duration) {}
func (uncounted) Forget(model.ProbeKey)                                           {}

// Run blocks until ctx ends.
func (p *Probes) Run(ctx context.Context) error {
	p.start = time.Now()
	p.resume()
	loop := &reconcile.Keyed[model.ProbeKey]{
		Name:  "probes",
		Store: p.deps.Store,
		Log:   p.deps.Log,
		// Static pods are probed before the API's pods are known.
		Ready:     func(s *store.Snapshot) bool { return s.Runtime.Synced() },
		Keys:      p.keys,
		Sync:      p.sync,
		Interrupt: pointless,
		Health:    p.deps.Health,
	}
	return loop.Run(ctx)
}

// sync looks at one probe, and runs it when it is due.
func (p *Probes) sync(ctx context.Context, key model.ProbeKey, snap *store.Snapshot) (time.Duration, error) {
	facts := gather(key, snap)
	if facts.Pod == nil && !snap.Pods.Missing(key.PodUID) {
		return 0, nil // the API may know it
	}
	now := time.Now()
	step := probeplan.Next(facts, p.state(key), now, p.spread(key, facts))
	if step.Forget {
		p.forget(key)
		return 0, nil
	}
	p.remember(key, step.State, facts.Standing)
	if step.Set {
		p.commit(step, &model.Probe{ProbeKey: key, ContainerID: step.ID, Verdict: step.Verdict, Since: now})
	}
	if !step.Run {
		return until(step.Wait, now), nil
	}
	result := p.run(ctx, facts, step)
	if ctx.Err() != nil {
		return 0, nil // what was probed is no longer there
	}
	// As the table is now: the step may have set the verdict that this one is compared with.
	facts = gather(key, p.deps.Store.Snapshot())
	if result.Outcome != handler.Unknown && facts.Pod != nil {
		p.take(facts, step, result)
	}
	return max(until(step.State.Due, time.Now()), time.Millisecond), nil
}

// take counts a result and commits the verdict when it changes.
func (p *Probes) take(facts probeplan.Facts, step probeplan.Step, result handler.Result) {
	verdict := model.Success
	if result.Outcome == handler.Failure {
		verdict = model.Failure
	}
	state, changed := probeplan.After(facts, step.State, verdict)
	if !changed {
		p.remember(facts.Key, state, facts.Standing)
		return
	}
	step.State = state
	p.commit(step, &model.Probe{ProbeKey: facts.Key, ContainerID: step.ID, Verdict: verdict, Message: result.Message, Since: time.Now()})
}

// run runs the probe once, and again when it could not be run at all.
func (p *Probes) run(ctx context.Context, facts probeplan.Facts, step probeplan.Step) handler.Result {
	target := handler.Target{ContainerID: step.ID, Container: step.Container, IP: p.address(facts, step.Sandbox)}
	spec := probeplan.Of(step.Container, facts.Key.Type)
	var result handler.Result
	began := time.Now()
	for range tries {
		result = p.deps.Handlers.Probe(ctx, target, spec)
		if result.Outcome != handler.Unknown || ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return result // what was probed is no longer there: nobody counts or hears of it
	}
	p.deps.Metrics.Ran(facts.Pod, facts.Key, result.Outcome, time.Since(began))
	if result.Outcome != handler.Success {
		ran := result.Outcome == handler.Failure
		p.deps.Events.Event(ref(facts.Pod, facts.Key.Container), corev1.EventTypeWarning, "Unhealthy",
			probeplan.Unhealthy(facts.Key.Type, result.Message, ran))
	} else if result.Odd {
		p.deps.Events.Event(ref(facts.Pod, facts.Key.Container), corev1.EventTypeWarning, "ProbeWarning",
			probeplan.Odd(facts.Key.Type, result.Message))
	}
	return result
}

// address is where the pod is reached: in its sandbox, or on the node.
func (p *Probes) address(facts probeplan.Facts, sandbox string) netip.Addr {
	for i := range facts.Runtime.Sandboxes {
		if s := &facts.Runtime.Sandboxes[i]; s.ID == sandbox && len(s.IPs) > 0 {
			return s.IPs[0]
		}
	}
	if facts.Pod.Spec.HostNetwork {
		return p.deps.NodeIP()
	}
	return netip.Addr{}
}

// commit publishes a verdict, with the counts that led to it; what is kept of it comes first.
func (p *Probes) commit(step probeplan.Step, row *model.Probe) {
	p.remember(row.ProbeKey, step.State, row)
	p.deps.Probes.Set(row.ProbeKey, row)
}

func (p *Probes) state(key model.ProbeKey) probeplan.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.states[key]
}

// spread delays the first run of a container that ran before the daemon did,
// each probe by another part of its period, so that they don't all come at once.
func (p *Probes) spread(key model.ProbeKey, facts probeplan.Facts) float64 {
	if facts.Runtime == nil {
		return 0
	}
	c := facts.Runtime.Latest(key.Container)
	if c == nil || !c.Started.Before(p.start) {
		return 0
	}
	h := fnv.New32a()
	fmt.Fprint(h, key)
	return float64(h.Sum32()) / (1 << 32)
}

// until is the time from now to t, 0 when t is zero, and at least a little otherwise.
func until(t, now time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(t.Sub(now), time.Millisecond)
}

func ref(pod *corev1.Pod, container string) corev1.ObjectReference {
	list := "containers"
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == container {
			list = "initContainers"
		}
	}
	return corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		FieldPath: fmt.Sprintf("spec.%s{%s}", list, container),
	}
}
