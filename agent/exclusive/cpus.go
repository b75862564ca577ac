package exclusive

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/exclusive/alignplan"
	"nodelet/agent/exclusive/cpuplan"
	"nodelet/cri"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// smtError is a request that does not fill cores.
type smtError struct{ error }

// wantsCPUs is how many CPUs a container is to have to itself.
func (m *Manager) wantsCPUs(pod *corev1.Pod, c *corev1.Container) int {
	if m.cfg.CPUs == nil {
		return 0
	}
	return cpuplan.Wants(pod, c)
}

// takeCPUs takes CPUs for the next container of a pod: first those that the pod's init containers had, then
// such that are near to the nodes.
func (m *Manager) takeCPUs(g *model.Grant, n int, lent cpuplan.Set, near alignplan.Nodes) (cpuplan.Set, error) {
	t := m.cfg.CPUs.Topology
	if per := t.PerCore(); m.cfg.CPUs.Options.WholeCores && n%per != 0 {
		return nil, smtError{cpuplan.SMTError(n, per)}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	options := m.cfg.CPUs.Options
	first, _ := options.Take(t, lent, min(n, len(lent)))
	free := m.freeCPUs(g).Without(first)
	if here := free.And(options.Near(t, near)); near != 0 && len(first)+len(here) < n {
		if m.cfg.Align.Policy.Strict() {
			return nil, errLater // another pod has taken them since
		}
		first, free = first.With(here), free.Without(here)
	} else if near != 0 {
		free = here
	}
	rest, ok := options.Take(t, free, n-len(first))
	if !ok || m.pool(g).Without(first.With(rest)).String() == "" {
		return nil, fmt.Errorf("not enough cpus available to satisfy request: requested=%d, available=%d", n, len(free)+len(first))
	}
	got := first.With(rest)
	m.grants[g.UID] = with(g, "", model.ContainerGrant{CPUs: got.String()})
	return got, nil
}

// freeCPUs are those that can be given; mu is held. g stands for what its pod has.
func (m *Manager) freeCPUs(g *model.Grant) cpuplan.Set {
	return m.cfg.CPUs.Topology.All().Without(m.cfg.CPUs.Reserved).Without(m.taken(g))
}

// pool are the CPUs that containers share; mu is held.
func (m *Manager) pool(g *model.Grant) cpuplan.Set {
	s := m.cfg.CPUs.Topology.All().Without(m.taken(g))
	if m.cfg.CPUs.Options.Strict {
		s = s.Without(m.cfg.CPUs.Reserved)
	}
	return s
}

// taken are the CPUs that containers have to themselves; mu is held.
func (m *Manager) taken(g *model.Grant) (all cpuplan.Set) {
	for uid, other := range m.grants {
		if g != nil && uid == g.UID {
			continue
		}
		all = all.With(cpus(other))
	}
	if g != nil {
		all = all.With(cpus(g))
	}
	return all
}

func cpus(g *model.Grant) (all cpuplan.Set) {
	for _, c := range g.Containers {
		if s, err := cpuplan.Parse(c.CPUs); err == nil {
			all = all.With(s)
		}
	}
	return all
}

// Shared are the CPUs of containers that have none to themselves; empty without the static policy.
func (m *Manager) Shared() string {
	if m.cfg.CPUs == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pool(nil).String()
}

// CPUCounts are how many CPUs containers have to themselves, and how many they still could have.
func (m *Manager) CPUCounts() (given, free int) {
	if m.cfg.CPUs == nil {
		return 0, 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.taken(nil)), len(m.freeCPUs(nil))
}

// CPUs are those that can be given to containers at all, for PodResources.
func (m *Manager) CPUs() cpuplan.Set {
	if m.cfg.CPUs == nil {
		return nil
	}
	return m.cfg.CPUs.Topology.All().Without(m.cfg.CPUs.Reserved)
}

// poolLoop keeps the containers that run on the CPUs that are theirs.
func (m *Manager) poolLoop() *reconcile.Loop {
	return &reconcile.Loop{
		Name: "CPU sets", Store: m.deps.Store, Log: m.deps.Log, Health: m.deps.CPUsHealth,
		Ready: func(s *store.Snapshot) bool { return s.Runtime.Synced() && s.Grants.Synced() },
		Relevant: func(prev, next *store.Snapshot) bool {
			return next.Grants.Last() != prev.Grants.Last() || next.Runtime.Last() != prev.Runtime.Last()
		},
		Sync:    func(ctx context.Context, _, snap *store.Snapshot) error { return m.assign(ctx, snap) },
		Backoff: reconcile.Backoff{Min: time.Second, Max: 10 * time.Second},
	}
}

// assign changes the CPU sets of running containers where they are not what they were last made to be.
func (m *Manager) assign(ctx context.Context, snap *store.Snapshot) error {
	shared := m.Shared()
	known := map[string]bool{}
	var errs []error
	for uid, rt := range snap.Runtime.All() {
		grant, _ := snap.Grants.Get(uid)
		for i := range rt.Containers {
			c := &rt.Containers[i]
			known[c.ID] = true
			want := shared
			if grant != nil && grant.Containers[c.Name].CPUs != "" {
				want = grant.Containers[c.Name].CPUs
			}
			if c.State != model.ContainerRunning || m.sets[c.ID] == want {
				continue
			}
			limited, cancel := context.WithTimeout(ctx, asking)
			_, err := m.deps.Runtime.UpdateContainerResources(limited, &runtimev1.UpdateContainerResourcesRequest{
				ContainerId: c.ID, Linux: &runtimev1.LinuxContainerResources{CpusetCpus: want},
			})
			cancel()
			if err != nil && !errors.Is(err, cri.ErrNotFound) {
				errs = append(errs, fmt.Errorf("set the CPUs of container %s of pod %s to %s: %w", c.Name, rt.Pod, want, err))
				continue
			}
			m.sets[c.ID] = want
		}
	}
	for id := range m.sets {
		if !known[id] {
			delete(m.sets, id)
		}
	}
	return errors.Join(errs...)
}
