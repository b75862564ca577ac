package exclusive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"nodelet/agent/exclusive/cpuplan"
	"nodelet/agent/exclusive/deviceplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// Upstream's reasons of pods that cannot have what they ask for.
const (
	reasonUnexpected = "UnexpectedAdmissionError"
	reasonSMT        = "SMTAlignmentError"
	reasonAffinity   = "TopologyAffinityError"
)

// errLater: it cannot be decided yet.
var errLater = errors.New("a plugin is not back yet")

// asks tells whether a pod asks for something that it would have to itself.
func (m *Manager) asks(pod *corev1.Pod) bool {
	return Asks(pod, m.cfg.CPUs != nil)
}

// Asks tells whether a pod asks for something that it would have to itself; static: CPUs count.
func Asks(pod *corev1.Pod, static bool) bool {
	return slices.ContainsFunc(deviceplan.Containers(pod), func(c deviceplan.Container) bool {
		return len(deviceplan.Asks(pod, c.Container)) > 0 || static && cpuplan.Wants(pod, c.Container) > 0
	})
}

// WantsCPUs tells whether a container of a pod has CPUs to itself under the static policy.
func WantsCPUs(pod *corev1.Pod) bool {
	return slices.ContainsFunc(deviceplan.Containers(pod), func(c deviceplan.Container) bool { return cpuplan.Wants(pod, c.Container) > 0 })
}

// sync gives a pod what it asks for, and takes it back at its end.
func (m *Manager) sync(ctx context.Context, uid model.UID, snap *store.Snapshot) (time.Duration, error) {
	m.mu.Lock()
	grant := m.grants[uid]
	m.mu.Unlock()
	pod, there := snap.Pods.Get(uid)
	if !there || over(pod) {
		if rt, ok := snap.Runtime.Get(uid); grant != nil && (!ok || !alive(rt)) {
			return 0, m.release(uid)
		}
		return 0, nil
	}
	row, decided := snap.Allocations.Get(uid)
	if grant != nil || !decided || row.Rejected || !m.asks(pod) {
		return 0, nil
	}
	grant, err := m.grant(ctx, pod)
	if errors.Is(err, errLater) {
		m.forget(uid) // what was taken so far: the pod asks for all of it again
		return time.Second, nil
	}
	if ctx.Err() != nil {
		m.forget(uid)
		return 0, ctx.Err()
	}
	if err != nil {
		if m.leaving(snap) {
			m.forget(uid)
			return time.Second, nil // what is missing may be what they give back
		}
		grant = m.refuse(pod, err)
	}
	return 0, m.publish(grant)
}

// leaving: a pod that is on its way out still has something to itself.
func (m *Manager) leaving(snap *store.Snapshot) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid, g := range m.grants {
		pod, there := snap.Pods.Get(uid)
		if len(g.Containers) > 0 && (!there || over(pod) || pod.DeletionTimestamp != nil) {
			return true
		}
	}
	return false
}

func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func alive(rt *model.PodRuntime) bool {
	return slices.ContainsFunc(rt.Containers, func(c model.Container) bool {
		return c.State == model.ContainerRunning || c.State == model.ContainerUnknown
	})
}

// refuse makes the grant of a pod that does not get what it asks for.
func (m *Manager) refuse(pod *corev1.Pod, err error) *model.Grant {
	m.forget(model.UID(pod.UID))
	reason, message := reasonUnexpected, fmt.Sprintf("Allocate failed due to %v, which is unexpected", err)
	var smt smtError
	if errors.As(err, &smt) {
		reason, message = reasonSMT, err.Error()
	}
	if errors.Is(err, errAffinity) {
		reason, message = reasonAffinity, err.Error()
	}
	m.deps.Events.Event(corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		corev1.EventTypeWarning, reason, message)
	return &model.Grant{UID: model.UID(pod.UID), Rejected: true, Reason: reason, Message: "Pod was rejected: " + message}
}

// publish keeps a grant and then tells of it.
func (m *Manager) publish(g *model.Grant) error {
	if err := m.deps.KeepGrants.Put(g.UID.String(), *g); err != nil {
		m.forget(g.UID)
		return fmt.Errorf("keep what pod %s was given: %w", g.UID, err)
	}
	m.reserve(g)
	m.deps.Grants.Set(g.UID, g)
	return nil
}

func (m *Manager) release(uid model.UID) error {
	if err := m.deps.KeepGrants.Delete(uid.String()); err != nil {
		return fmt.Errorf("take back what pod %s was given: %w", uid, err)
	}
	m.forget(uid)
	m.deps.Grants.Delete(uid)
	return nil
}

// reserve notes what a pod has, so that nobody else gets it.
func (m *Manager) reserve(g *model.Grant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.grants[g.UID] = g
}

func (m *Manager) forget(uid model.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.grants, uid)
}

// grant serves the containers of a pod in the order in which they run.
func (m *Manager) grant(ctx context.Context, pod *corev1.Pod) (*model.Grant, error) {
	g := &model.Grant{UID: model.UID(pod.UID), Containers: map[string]model.ContainerGrant{}}
	lent := map[string]map[string]bool{} // devices, by resource, of containers that have ended when the next begins
	var lentCPUs cpuplan.Set
	all := deviceplan.Containers(pod)
	if !m.back(pod, all) {
		return nil, errLater
	}
	near, err := m.alignPod(g, pod, all)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if near, err = m.alignContainer(near, g, wants{pod: pod, c: c, lentCPUs: lentCPUs, lent: lent}); err != nil {
			return nil, err
		}
		one := model.ContainerGrant{Devices: map[string][]model.Device{}, Env: map[string]string{}, Annotations: map[string]string{}}
		if n := m.wantsCPUs(pod, c.Container); n > 0 {
			got, err := m.takeCPUs(g, n, lentCPUs, near)
			m.deps.Metrics.Pinned(err)
			if err != nil {
				return nil, err
			}
			one.CPUs = got.String()
			if lentCPUs = lentCPUs.Without(got); c.Lends {
				lentCPUs = lentCPUs.With(got)
			}
		}
		asks := deviceplan.Asks(pod, c.Container)
		for _, resource := range slices.Sorted(maps.Keys(asks)) {
			ids, err := m.device(ctx, g, &one, deviceplan.Request{Resource: resource, Need: asks[resource], Reusable: lent[resource], Near: near})
			if err != nil {
				return nil, err
			}
			if lent[resource] == nil {
				lent[resource] = map[string]bool{}
			}
			for _, id := range ids {
				lent[resource][id] = c.Lends
			}
			maps.DeleteFunc(lent[resource], func(_ string, lends bool) bool { return !lends })
		}
		if one.CPUs != "" || len(one.Devices) > 0 {
			g = with(g, c.Name, one)
			m.reserve(g)
		}
	}
	return g, nil
}

// back tells whether all plugins that a pod needs have been met by this process, or had time for it: no
// plugin is asked to prepare devices for a pod that has to wait for another.
func (m *Manager) back(pod *corev1.Pod, all []deviceplan.Container) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.started) >= booting {
		return true
	}
	for _, c := range all {
		for resource := range deviceplan.Asks(pod, c.Container) {
			if p := m.plugins[resource]; p != nil && p.client == nil {
				return false
			}
		}
	}
	return true
}

// with is a grant with one container more: what was handed to others is never changed.
func with(g *model.Grant, name string, c model.ContainerGrant) *model.Grant {
	next := *g
	next.Containers = maps.Clone(g.Containers)
	next.Containers[name] = c
	return &next
}

// device gives a container devices of one resource; none where no plugin ever had that resource.
func (m *Manager) device(ctx context.Context, g *model.Grant, c *model.ContainerGrant, q deviceplan.Request) ([]string, error) {
	client, offer, prefers, err := m.offer(g, q)
	if err != nil || client == nil {
		return nil, err
	}
	var preferred []string
	if prefers {
		if preferred, err = prefer(ctx, client, offer); err != nil {
			return nil, err
		}
	}
	ids, err := m.choose(g, c, q, preferred)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, allocating)
	defer cancel()
	began := time.Now()
	answer, err := client.Allocate(limited, &pluginapi.AllocateRequest{ContainerRequests: []*pluginapi.ContainerAllocateRequest{{DevicesIds: ids}}})
	m.deps.Metrics.Allocated(q.Resource, time.Since(began))
	if err != nil {
		return nil, err
	}
	if len(answer.GetContainerResponses()) != 1 {
		return nil, fmt.Errorf("device plugin of %s answers for %d containers instead of one", q.Resource, len(answer.GetContainerResponses()))
	}
	return ids, add(c, q.Resource, answer.GetContainerResponses()[0])
}

// offer says what there is to choose from now; no client: the resource is none of a plugin.
func (m *Manager) offer(g *model.Grant, q deviceplan.Request) (pluginapi.DevicePluginClient, deviceplan.Offer, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.plugins[q.Resource]
	if p == nil {
		return nil, deviceplan.Offer{}, false, nil
	}
	if p.client == nil && time.Since(m.started) < booting {
		return nil, deviceplan.Offer{}, false, errLater
	}
	offer, err := m.request(g, q, p).Check()
	if err == nil && p.client == nil {
		err = fmt.Errorf("the device plugin of %s is gone", q.Resource)
	}
	return p.client, offer, p.options.GetGetPreferredAllocationAvailable(), err
}

// request completes a request by what is true now; mu is held.
func (m *Manager) request(g *model.Grant, q deviceplan.Request, p *plugin) deviceplan.Request {
	q.Known, q.Healthy, q.Used = true, p.healthy(time.Now()), map[string]bool{}
	q.NUMA = func(id string) []int64 { return p.devices[id].NUMA }
	for uid, other := range m.grants {
		if uid == g.UID {
			other = g // what is reserved so far
		}
		for _, c := range other.Containers {
			for _, d := range c.Devices[q.Resource] {
				q.Used[d.ID] = true
			}
		}
	}
	return q
}

// choose takes devices and reserves them before the plugin is asked to prepare them.
func (m *Manager) choose(g *model.Grant, c *model.ContainerGrant, q deviceplan.Request, preferred []string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.plugins[q.Resource]
	q = m.request(g, q, p)
	offer, err := q.Check()
	if err != nil {
		return nil, err
	}
	ids := offer.Choose(preferred)
	if m.cfg.Align.Policy.Strict() && !q.Aligned(ids) {
		return nil, errLater // another pod has taken them since
	}
	c.Devices[q.Resource] = p.devicesOf(ids)
	m.grants[g.UID] = with(g, "", model.ContainerGrant{CPUs: c.CPUs, Devices: maps.Clone(c.Devices)}) // the container has no name until all is done
	return ids, nil
}

func prefer(ctx context.Context, client pluginapi.DevicePluginClient, o deviceplan.Offer) ([]string, error) {
	limited, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	answer, err := client.GetPreferredAllocation(limited, &pluginapi.PreferredAllocationRequest{ContainerRequests: []*pluginapi.ContainerPreferredAllocationRequest{{
		AvailableDeviceIDs: slices.Sorted(slices.Values(slices.Concat(o.Available, o.Must))), MustIncludeDeviceIDs: o.Must, AllocationSize: int32(o.Need),
	}}})
	if err != nil {
		return nil, fmt.Errorf("device plugin GetPreferredAllocation rpc failed with err: %w", err)
	}
	if len(answer.GetContainerResponses()) == 0 {
		return nil, nil // it has no preference
	}
	return answer.GetContainerResponses()[0].GetDeviceIDs(), nil
}
