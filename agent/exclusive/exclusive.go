package exclusive

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/exclusive/alignplan"
	"nodelet/agent/exclusive/cpuplan"
	"nodelet/internal/keep"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

const (
	// returning is how long a plugin that was there before the daemon's restart has to be there again.
	returning = 10 * time.Second
	// booting is how long pods wait, after the daemon's start, for plugins that were there in an earlier life of the machine.
	booting = time.Minute
	// lost is how long the devices of a plugin that went count as broken ones before they count as none; upstream's.
	lost = 5 * time.Minute
)

// Config has the values that rule this part.
type Config struct {
	// Dir is where plugins register: device-plugins below the kubelet root.
	Dir string
	// CPUs is the static CPU policy; nil: no container has CPUs to itself.
	CPUs *CPUs
	// Align is how near to one another a container gets what it has to itself.
	Align Align
}

// Align is the topology manager's policy.
type Align struct {
	Policy alignplan.Policy
	// Pod: all containers of a pod get it near to the same nodes, and not each by itself.
	Pod bool
	// Nodes are the machine's NUMA nodes, where the policy is on.
	Nodes alignplan.Nodes
	// Near: of places as good as each other the one is taken whose nodes are near to one another; nil: that is not looked at.
	Near alignplan.Distances
}

// CPUs is the static policy's machine.
type CPUs struct {
	Topology cpuplan.Topology
	Reserved cpuplan.Set
	Options  cpuplan.Options
}

// Events takes what users should see; it never blocks.
type Events interface {
	Event(ref corev1.ObjectReference, eventType, reason, message string)
}

// Runtime changes the CPU set of running containers.
type Runtime interface {
	UpdateContainerResources(context.Context, *runtimev1.UpdateContainerResourcesRequest) (*runtimev1.UpdateContainerResourcesResponse, error)
}

// Deps are the seams of a Manager.
type Deps struct {
	Store   *store.Store
	Grants  *store.Writer[model.UID, *model.Grant]
	Runtime Runtime
	Events  Events
	// KeepGrants and KeepPlugins hold for the next process what this one has given and met; GrantsBefore and
	// PluginsBefore are the last one's. Plugins outlive the boot.
	KeepGrants    keep.Keeper[model.Grant]
	GrantsBefore  map[string]model.Grant
	KeepPlugins   keep.Keeper[KeptPlugin]
	PluginsBefore map[string]KeptPlugin
	// Changed is told that Resources has news.
	Changed func()
	// Metrics may be nil.
	Metrics Metrics
	Log     *slog.Logger
	// Health of the loops; may be nil.
	PodsHealth, PluginsHealth, CPUsHealth *reconcile.Health
}

// Metrics counts; by wiring.
type Metrics interface {
	Registered(resource string)
	Allocated(resource string, took time.Duration)
	// Pinned: a container asked for CPUs of its own.
	Pinned(err error)
	// Aligned: a container's or pod's place was sought.
	Aligned(admitted bool)
}

// Manager hands out devices and CPUs.
type Manager struct {
	cfg     Config
	deps    Deps
	started time.Time
	hints   chan string

	mu      sync.Mutex
	plugins map[string]*plugin // by resource
	// grants are what pods have, and what is reserved for those that are being served. Values are never changed.
	grants map[model.UID]*model.Grant
	// sets are the CPU sets that running containers were given by this process, by container id.
	sets map[string]string
}

// New takes up what the last process kept; it touches nothing.
func New(cfg Config, deps Deps) *Manager {
	if deps.Changed == nil {
		deps.Changed = func() {}
	}
	if deps.Metrics == nil {
		deps.Metrics = uncounted{}
	}
	m := &Manager{
		cfg: cfg, deps: deps, started: time.Now(), hints: make(chan string, 16),
		plugins: map[string]*plugin{}, grants: map[model.UID]*model.Grant{}, sets: map[string]string{},
	}
	for _, g := range deps.GrantsBefore {
		m.grants[g.UID] = &g
	}
	for name, k := range deps.PluginsBefore {
		m.plugins[name] = k.restore()
	}
	return m
}

type uncounted struct{}

func (uncounted) Registered(string)               {}
func (uncounted) Allocated(string, time.Duration) {}
func (uncounted) Pinned(error)                    {}
func (uncounted) Aligned(bool)                    {}

// Run blocks until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	m.deps.Grants.Replace(maps.Clone(m.grants))
	m.judge()
	pods := &reconcile.Keyed[model.UID]{
		Name: "exclusive resources", Store: m.deps.Store, Log: m.deps.Log, Health: m.deps.PodsHealth,
		Ready: func(s *store.Snapshot) bool { return s.Pods.Synced() && s.Runtime.Synced() },
		Keys:  m.keys,
		Sync:  m.sync,
	}
	plugins := &reconcile.Keyed[string]{
		Name: "device plugins", Store: m.deps.Store, Log: m.deps.Log, Health: m.deps.PluginsHealth,
		Keys: func(prev, _ *store.Snapshot) iter.Seq[string] { return m.known(prev == nil) },
		Sync: func(ctx context.Context, resource string, _ *store.Snapshot) (time.Duration, error) {
			return m.follow(ctx, resource)
		},
		Hints:   m.hints,
		Backoff: reconcile.Backoff{Min: time.Second, Max: 30 * time.Second},
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return pods.Run(ctx) })
	g.Go(func() error { return plugins.Run(ctx) })
	g.Go(func() error { return m.serve(ctx) })
	if m.cfg.CPUs != nil {
		g.Go(func() error { return m.poolLoop().Run(ctx) })
	}
	return g.Wait()
}

// known are the resources to follow from the start.
func (m *Manager) known(all bool) iter.Seq[string] {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !all {
		return func(func(string) bool) {}
	}
	return slices.Values(slices.Collect(maps.Keys(m.plugins)))
}

// keys yields the pods that may need something, or have something to give back.
func (m *Manager) keys(prev, next *store.Snapshot) iter.Seq[model.UID] {
	uids := next.PodsTouched(prev)
	m.mu.Lock()
	if prev == nil {
		for uid := range m.grants {
			uids[uid] = true
		}
	}
	for uid := range uids {
		pod, there := next.Pods.Get(uid)
		if m.grants[uid] == nil && (!there || !m.asks(pod)) {
			delete(uids, uid)
		}
	}
	m.mu.Unlock()
	return maps.Keys(uids)
}

// Resource is what the node has of a plugin's resource.
type Resource struct {
	Name                  string
	Capacity, Allocatable int64
}

// Resources are those of all plugins there were, for the node's status.
func (m *Manager) Resources() (all []Resource) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, name := range slices.Sorted(maps.Keys(m.plugins)) {
		p := m.plugins[name]
		r := Resource{Name: name}
		if p.counts(now) {
			r.Capacity, r.Allocatable = int64(len(p.devices)), int64(len(p.healthy(now)))
		}
		all = append(all, r)
	}
	return all
}

// Devices are those that can be given, by resource.
func (m *Manager) Devices() map[string][]model.Device {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string][]model.Device{}
	for name, p := range m.plugins {
		if ids := slices.Sorted(maps.Keys(p.healthy(time.Now()))); len(ids) > 0 {
			all[name] = p.devicesOf(ids)
		}
	}
	return all
}

// checkDir says what is wrong with the directory before anything listens there.
func checkDir(dir string) error {
	const longest = 107 // bytes of a unix socket's path, by the kernel
	if path := filepath.Join(dir, socketName); len(path) > longest {
		return fmt.Errorf("the socket for device plugins would be %s: %d bytes, the kernel allows %d: choose a shorter --data-dir", path, len(path), longest)
	}
	return nil
}

var errGone = errors.New("the plugin's socket is gone")
