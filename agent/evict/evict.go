package evict

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/evict/evictplan"
	"nodelet/agent/stats"
	"nodelet/internal/keep"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

const (
	// glance is how often memory is looked at, which is three files, and look all else; upstream's is ten
	// seconds for both.
	glance = time.Second
	look   = 10 * time.Second
	// transition is upstream's evictionPressureTransitionPeriod.
	transition = 5 * time.Minute
	// patience is how long an evicted pod has to end before another one is evicted; upstream's.
	patience = 30 * time.Second
)

// Config is when to evict.
type Config struct {
	NodeName   string
	Thresholds []evictplan.Threshold
	// Transition is how long a condition stays after the pressure has gone; 0 means 5 min.
	Transition time.Duration
	// MaxGrace bounds the grace period of soft evictions (evictionMaxPodGracePeriod).
	MaxGrace time.Duration
	// Pressure and Kmsg are /proc/pressure/memory and /dev/kmsg; "-" for none.
	Pressure, Kmsg string
}

// Stats measures; *stats.Stats does.
type Stats interface {
	Node(ctx context.Context, depth stats.Depth) stats.Node
	Read(ctx context.Context, depth stats.Depth) stats.All
}

// Events takes what users should see; it never blocks.
type Events interface {
	Event(ref corev1.ObjectReference, eventType, reason, message string)
}

// Deps are the seams of an Evictor.
type Deps struct {
	Store     *store.Store
	Evictions *store.Writer[model.UID, *model.Eviction]
	Stats     Stats
	// Reclaim removes images that nobody uses.
	Reclaim func(context.Context) error
	Events  Events
	// Changed is told that Conditions has news; Evicted of each pod that is evicted, by signal.
	Changed func()
	Evicted func(signal string)
	// Keep holds for the next process what this one decided, Before is what the last one did; both may be nil.
	Keep   keep.Keeper[Kept]
	Before map[string]Kept
	Log    *slog.Logger
	Health *reconcile.Health
}

// Evictor looks after what is left of the node.
type Evictor struct {
	cfg  Config
	deps Deps
	wake chan struct{}

	mu         sync.Mutex
	conditions []corev1.NodeConditionType

	// For the loop only.
	state  evictplan.State
	looked time.Time
	told   map[corev1.ResourceName]time.Time
}

// New touches nothing.
func New(cfg Config, deps Deps) *Evictor {
	if cfg.Transition <= 0 {
		cfg.Transition = transition
	}
	if cfg.Pressure == "" {
		cfg.Pressure = "/proc/pressure/memory"
	}
	if cfg.Kmsg == "" {
		cfg.Kmsg = "/dev/kmsg"
	}
	if deps.Changed == nil {
		deps.Changed = func() {}
	}
	if deps.Evicted == nil {
		deps.Evicted = func(string) {}
	}
	if deps.Keep == nil {
		deps.Keep = keep.None[Kept]{}
	}
	e := &Evictor{cfg: cfg, deps: deps, wake: make(chan struct{}, 1), told: map[corev1.ResourceName]time.Time{}}
	before := deps.Before[nodeKey]
	e.state, e.conditions = past(before.State, time.Now()), before.Conditions
	return e
}

// Has tells whether the node shows a condition.
func (e *Evictor) Has(c corev1.NodeConditionType) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.conditions, c)
}

// Conditions are those that the node shows, sorted.
func (e *Evictor) Conditions() []corev1.NodeConditionType {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.conditions)
}

// Run blocks until ctx ends.
func (e *Evictor) Run(ctx context.Context) error {
	e.deps.Evictions.Replace(e.rowsBefore())
	loop := reconcile.Loop{
		Name: "eviction", Store: e.deps.Store, Log: e.deps.Log, Health: e.deps.Health,
		Ready: func(s *store.Snapshot) bool { return s.Pods.Synced() && s.Runtime.Synced() },
		Relevant: func(prev, next *store.Snapshot) bool {
			return next.Evictions.Len() > 0 && prev.Pods.Last() != next.Pods.Last()
		},
		Sync:    e.sync,
		Resync:  glance,
		Wake:    e.wake,
		Backoff: reconcile.Backoff{Min: glance, Max: look},
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return loop.Run(ctx) })
	g.Go(func() error { e.watchPressure(ctx); return nil })
	g.Go(func() error { e.watchKernel(ctx); return nil })
	return g.Wait()
}

// sync takes one look; a cheap one where that shows that there is no hurry.
func (e *Evictor) sync(ctx context.Context, prev, snap *store.Snapshot) error {
	e.forget(snap)
	if prev != nil {
		return nil // only pods have changed
	}
	now := time.Now()
	if now.Sub(e.looked) < look && !e.shortOfMemory(e.deps.Stats.Node(ctx, stats.Memory)) {
		return nil
	}
	e.looked = now
	facts := evictplan.Facts{
		Now: now, Thresholds: e.cfg.Thresholds, Transition: e.cfg.Transition, MaxGrace: e.cfg.MaxGrace,
		State: e.state, Going: e.going(snap, now), Pods: e.pods(snap),
	}
	observe(&facts, e.deps.Stats.Node(ctx, stats.Full))
	plan := evictplan.Make(facts)
	if plan.Need {
		all := e.deps.Stats.Read(ctx, stats.Full)
		facts.Full, facts.Pods = true, used(facts.Pods, all.Pods)
		plan = evictplan.Make(facts)
	}
	if plan.Reclaim {
		e.tellStarved(plan)
		if err := e.deps.Reclaim(ctx); err != nil {
			e.deps.Log.Warn("reclaim images, evicting if that does not help", "err", err)
		}
		observe(&facts, e.deps.Stats.Node(ctx, stats.Full))
		facts.Reclaimed = true
		plan = evictplan.Make(facts)
	}
	e.carryOut(plan)
	return nil
}

// shortOfMemory tells whether a threshold for memory is crossed.
func (e *Evictor) shortOfMemory(n stats.Node) bool {
	facts := evictplan.Facts{Now: time.Now(), State: e.state}
	for _, t := range e.cfg.Thresholds {
		if t.Signal == evictplan.MemoryAvailable {
			facts.Thresholds = append(facts.Thresholds, t)
		}
	}
	observe(&facts, n)
	return len(evictplan.Make(facts).State.Since) > 0
}

// forget drops the rows of pods whose end the API knows.
func (e *Evictor) forget(snap *store.Snapshot) {
	for uid := range snap.Evictions.All() {
		p, ok := snap.Pods.Get(uid)
		if !ok || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
			e.deps.Evictions.Delete(uid)
			e.drop(uid)
		}
	}
}

// going tells whether a pod that was evicted for pressure still runs, and may.
func (e *Evictor) going(snap *store.Snapshot, now time.Time) bool {
	for uid, row := range snap.Evictions.All() {
		if rt, ok := snap.Runtime.Get(uid); ok && row.Pressure && now.Sub(row.At) < patience+row.Grace && running(rt) {
			return true
		}
	}
	return false
}

func running(rt *model.PodRuntime) bool {
	return slices.ContainsFunc(rt.Containers, func(c model.Container) bool { return c.State == model.ContainerRunning })
}

// pods are those that run and are not going already.
func (e *Evictor) pods(snap *store.Snapshot) []evictplan.Pod {
	var all []evictplan.Pod
	for uid, p := range snap.Pods.All() {
		_, evicted := snap.Evictions.Get(uid)
		rt, ok := snap.Runtime.Get(uid)
		if ok && !evicted && p.DeletionTimestamp == nil && running(rt) {
			all = append(all, evictplan.Pod{Pod: p})
		}
	}
	return all
}

// carryOut writes what was decided where others read it.
func (e *Evictor) carryOut(plan evictplan.Plan) {
	e.state = plan.State
	e.mu.Lock()
	changed := !slices.Equal(e.conditions, plan.Conditions)
	e.conditions = plan.Conditions
	e.mu.Unlock()
	e.keep(nodeKey, Kept{State: plan.State, Conditions: plan.Conditions})
	if changed {
		e.deps.Log.Info("pressure on the node", "conditions", plan.Conditions)
		e.deps.Changed()
	}
	e.tellStarved(plan)
	for _, ev := range plan.Evict {
		e.deps.Log.Warn("evict pod", "pod", ev.Pod.Namespace+"/"+ev.Pod.Name, "signal", ev.Signal, "grace", ev.Grace, "message", ev.Message)
		e.deps.Events.Event(corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: ev.Pod.Namespace, Name: ev.Pod.Name, UID: ev.Pod.UID,
		}, corev1.EventTypeWarning, "Evicted", ev.Message)
		e.deps.Evicted(ev.Signal)
		uid := model.UID(ev.Pod.UID)
		e.End(&model.Eviction{UID: uid, At: time.Now(), Message: ev.Message, Grace: ev.Grace, Pressure: ev.Pressure})
	}
}

// End has a pod go, also for a reason of another part of the agent; a pod that goes already is left
// alone. It may be called at any time after Run has begun.
func (e *Evictor) End(row *model.Eviction) {
	if _, going := e.deps.Store.Snapshot().Evictions.Get(row.UID); !going {
		e.keep(podKey(row.UID), Kept{Row: row})
	}
	e.deps.Evictions.Commit(func(tx *store.Tx[model.UID, *model.Eviction]) {
		if _, going := tx.Get(row.UID); !going {
			tx.Set(row.UID, row)
		}
	})
}

// tellStarved says what is being reclaimed, once in each round of looks.
func (e *Evictor) tellStarved(plan evictplan.Plan) {
	if plan.Starved == "" || time.Since(e.told[plan.Starved]) < look/2 {
		return
	}
	e.told[plan.Starved] = time.Now()
	e.deps.Events.Event(e.node(), corev1.EventTypeWarning, "EvictionThresholdMet", fmt.Sprintf("Attempting to reclaim %s", plan.Starved))
}

// node is how events name the node: upstream puts its name into the UID.
func (e *Evictor) node() corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: e.cfg.NodeName, UID: types.UID(e.cfg.NodeName)}
}
