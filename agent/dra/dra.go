package dra

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"

	"nodelet/agent/dra/draplan"
	"nodelet/internal/keep"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// grace is how long a driver may be away before what it publishes is removed; upstream's.
const grace = 30 * time.Second

// Config has the values that rule this part.
type Config struct {
	// NodeName is this node's.
	NodeName string
	// Boot is the id of this boot.
	Boot string
	// Grace is how long a driver may be away; 0 means 30 s.
	Grace time.Duration
}

// API is what is asked of the API server.
type API interface {
	GetResourceClaim(context.Context, model.Key) (*resourcev1.ResourceClaim, error)
	// DeleteResourceSlices removes those of a driver on a node, of all drivers where it is empty.
	DeleteResourceSlices(ctx context.Context, node, driver string) error
}

// Events takes what users should see; it never blocks.
type Events interface {
	Event(ref corev1.ObjectReference, eventType, reason, message string)
}

// KeptDriver is what outlives the daemon, within one boot, of a driver that publishes here.
type KeptDriver struct{ Seen bool }

// Metrics counts; by wiring.
type Metrics interface {
	// Operation is all that was done for the claims of one pod.
	Operation(name string, took time.Duration, failed bool)
	// Called is one call to a driver.
	Called(driver, method, code string, took time.Duration)
	// InUse is how many claims a driver has prepared.
	InUse(driver string, claims int)
}

// Deps are the seams of a Manager.
type Deps struct {
	Store    *store.Store
	Prepared *store.Writer[model.UID, *model.PodDevices]
	API      API
	Events   Events
	// Records are kept over boots, Drivers within one; Before are the last process's.
	Records       keep.Keeper[draplan.Record]
	RecordsBefore map[string]draplan.Record
	Drivers       keep.Keeper[KeptDriver]
	DriversBefore map[string]KeptDriver
	Metrics       Metrics
	Log           *slog.Logger
	// Health of the loops; may be nil.
	PodsHealth, PluginsHealth, WatchHealth, DriversHealth *reconcile.Health
}

// Manager looks after the claims of this node's pods.
type Manager struct {
	cfg  Config
	deps Deps
	// claims lets one at a time work on a claim, by its key.
	claims reconcile.Locks[string]
	// Hints for the loops: pods, plugins by socket, drivers by name.
	pods                       chan model.UID
	plugins, watched, inquired chan string

	mu      sync.Mutex
	records map[model.Key]draplan.Record
	// released are pods that are at their end: nothing of them is prepared any more.
	released map[model.UID]bool
	// waits says why a pod waits; tries how often in a row its claims could not be read.
	waits map[model.UID]string
	tries map[model.UID]int
	// registered are the plugins of each driver, oldest first.
	registered map[string][]*plugin
	// lost is since when a driver that publishes here has no plugin that answers.
	lost map[string]time.Time
	// wiped: what was published before this boot is removed.
	wiped   bool
	counted map[string]int
}

// New takes up what the last process kept; it touches nothing.
func New(cfg Config, deps Deps) *Manager {
	if cfg.Grace <= 0 {
		cfg.Grace = grace
	}
	if deps.Metrics == nil {
		deps.Metrics = uncounted{}
	}
	m := &Manager{
		cfg: cfg, deps: deps,
		pods: make(chan model.UID), plugins: make(chan string), watched: make(chan string), inquired: make(chan string),
		records: map[model.Key]draplan.Record{}, released: map[model.UID]bool{}, waits: map[model.UID]string{}, tries: map[model.UID]int{},
		registered: map[string][]*plugin{}, lost: map[string]time.Time{}, counted: map[string]int{},
	}
	for _, r := range deps.RecordsBefore {
		m.records[r.Key] = r
	}
	for name := range deps.DriversBefore {
		if name == "" {
			m.wiped = true
			continue
		}
		m.lost[name] = time.Now() // until it registers anew
	}
	return m
}

type uncounted struct{}

func (uncounted) Operation(string, time.Duration, bool)        {}
func (uncounted) Called(string, string, string, time.Duration) {}
func (uncounted) InUse(string, int)                            {}

// Run blocks until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	m.deps.Prepared.Replace(m.rows())
	m.count()
	pods := &reconcile.Keyed[model.UID]{
		Name: "claims of pods", Store: m.deps.Store, Log: m.deps.Log, Health: m.deps.PodsHealth,
		Ready:     func(s *store.Snapshot) bool { return s.Pods.Synced() && s.Runtime.Synced() },
		Keys:      m.keys,
		Sync:      m.sync,
		Interrupt: interrupt,
		Hints:     m.pods,
	}
	none := func(*store.Snapshot, *store.Snapshot) iter.Seq[string] { return func(func(string) bool) {} }
	plugins := &reconcile.Keyed[string]{
		Name: "DRA plugins", Store: m.deps.Store, Log: m.deps.Log, Health: m.deps.PluginsHealth,
		Keys: none, Hints: m.plugins,
		Sync: func(ctx context.Context, socket string, _ *store.Snapshot) (time.Duration, error) {
			return m.follow(ctx, socket), nil
		},
	}
	health := &reconcile.Keyed[string]{
		Name: "DRA device health", Store: m.deps.Store, Log: m.deps.Log, Health: m.deps.WatchHealth,
		Keys: none, Hints: m.watched,
		Sync: func(ctx context.Context, socket string, _ *store.Snapshot) (time.Duration, error) {
			return m.watch(ctx, socket), nil
		},
	}
	drivers := &reconcile.Keyed[string]{
		Name: "DRA drivers", Store: m.deps.Store, Log: m.deps.Log, Health: m.deps.DriversHealth,
		// Before this node is registered there is nothing of it to remove.
		Ready: func(s *store.Snapshot) bool { _, ok := s.Nodes.Get(model.Key{Name: m.cfg.NodeName}); return ok },
		Keys:  m.drivers, Hints: m.inquired, Sync: m.inquire,
		Backoff: reconcile.Backoff{Min: time.Second, Max: 5 * time.Minute},
	}
	defer m.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return pods.Run(ctx) })
	g.Go(func() error { return plugins.Run(ctx) })
	g.Go(func() error { return health.Run(ctx) })
	g.Go(func() error { return drivers.Run(ctx) })
	return g.Wait()
}

// keys yields the pods that may need claims, or have some to give back.
func (m *Manager) keys(prev, next *store.Snapshot) iter.Seq[model.UID] {
	uids := next.PodsTouched(prev)
	m.mu.Lock()
	defer m.mu.Unlock()
	holders := map[model.UID]bool{}
	for _, r := range m.records {
		for _, uid := range r.Pods {
			holders[uid] = true
		}
	}
	if prev == nil {
		maps.Copy(uids, holders)
	}
	for uid := range uids {
		pod, there := next.Pods.Get(uid)
		if !holders[uid] && m.waits[uid] == "" && !m.released[uid] && (!there || !draplan.Any(pod)) {
			delete(uids, uid)
		}
	}
	return slices.Values(slices.Collect(maps.Keys(uids)))
}

// interrupt ends what is under way for a pod that is to end now.
func interrupt(uid model.UID, running, next *store.Snapshot) bool {
	before, was := running.Pods.Get(uid)
	after, is := next.Pods.Get(uid)
	return was && (!is || before.DeletionTimestamp == nil && after.DeletionTimestamp != nil)
}

// hint asks a loop to look at a key; it waits until the loop has heard.
func hint[K any](ctx context.Context, to chan<- K, key K) {
	select {
	case to <- key:
	case <-ctx.Done():
	}
}
