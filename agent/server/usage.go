package server

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/internal/cgroup"
	"nodelet/internal/model"
)

// podUsage is what one pod uses and its containers that run.
type podUsage struct {
	pod        *corev1.Pod
	cgroup     string
	started    time.Time
	usage      *cgroup.Usage // nil when it could not be read
	containers []containerUsage
}

// containerUsage is what one container uses.
type containerUsage struct {
	container *model.Container
	cgroup    string
	usage     *cgroup.Usage
}

// nodeUsage is what all of the machine and the pods on it use.
type nodeUsage struct {
	node *cgroup.Usage
	pods []podUsage
	// failed: something that runs could not be measured.
	failed bool
}

// measure reads what everything uses. Cgroups are read directly; only where a container's is not
// where we expect it the runtime is asked, once for all.
func (s *Server) measure(ctx context.Context) nodeUsage {
	now := time.Now()
	snap := s.deps.Store.Snapshot()
	var all nodeUsage
	if s.deps.Cgroups != nil {
		if u, err := s.deps.Cgroups.Usage("/", now); err == nil {
			all.node = &u
		}
	}
	all.failed = all.node == nil
	var missing []*containerUsage
	for uid, p := range snap.Pods.All() {
		rt, ok := snap.Runtime.Get(uid)
		if !ok {
			continue
		}
		pu := s.measurePod(p, rt, now)
		if len(pu.containers) == 0 && pu.usage == nil {
			continue
		}
		all.pods = append(all.pods, pu)
		for i := range pu.containers { // the backing array stays the same
			if pu.containers[i].usage == nil {
				missing = append(missing, &pu.containers[i])
			}
		}
	}
	if len(missing) > 0 && !s.askUsage(ctx, missing) {
		all.failed = true
	}
	return all
}

func (s *Server) measurePod(p *corev1.Pod, rt *model.PodRuntime, now time.Time) podUsage {
	pu := podUsage{pod: p}
	path := ""
	if s.deps.Cgroups != nil {
		path = s.deps.Cgroups.Path(cgroup.ForPod(p, 0).QoS, rt.UID)
		pu.cgroup = path
		if u, err := s.deps.Cgroups.Usage(path, now); err == nil {
			pu.usage = &u
		}
	}
	for _, sb := range rt.Sandboxes {
		if sb.Ready {
			pu.started = sb.Created
			break
		}
	}
	for i := range rt.Containers {
		c := &rt.Containers[i]
		if c.State != model.ContainerRunning {
			continue
		}
		cu := containerUsage{container: c}
		if path != "" {
			cu.cgroup = path + "/" + c.ID
			if u, err := s.deps.Cgroups.Usage(cu.cgroup, now); err == nil {
				cu.usage = &u
			}
		}
		pu.containers = append(pu.containers, cu)
	}
	return pu
}

// askUsage asks the runtime what containers use; false when one is still unknown.
func (s *Server) askUsage(ctx context.Context, missing []*containerUsage) bool {
	resp, err := s.deps.Runtime.ListContainerStats(ctx, &runtimev1.ListContainerStatsRequest{})
	if err != nil {
		s.deps.Log.Debug("kubelet API: ask the runtime for usage", "err", err)
		return false
	}
	byID := map[string]*runtimev1.ContainerStats{}
	for _, st := range resp.GetStats() {
		byID[st.GetAttributes().GetId()] = st
	}
	complete := true
	for _, m := range missing {
		st, ok := byID[m.container.ID]
		if !ok {
			complete = false
			continue
		}
		m.usage = &cgroup.Usage{
			At:         time.Unix(0, st.GetCpu().GetTimestamp()),
			CPU:        time.Duration(st.GetCpu().GetUsageCoreNanoSeconds().GetValue()),
			WorkingSet: st.GetMemory().GetWorkingSetBytes().GetValue(),
			Memory:     st.GetMemory().GetUsageBytes().GetValue(),
			RSS:        st.GetMemory().GetRssBytes().GetValue(),
			PageFaults: st.GetMemory().GetPageFaults().GetValue(), MajorPageFaults: st.GetMemory().GetMajorPageFaults().GetValue(),
		}
	}
	return complete
}

// rates turns the growing count of CPU time into a rate, from one reading to the next. It knows the
// last reading of what was there then, and nothing else.
type rates struct {
	mu   sync.Mutex
	last map[string]reading
	next map[string]reading
}

type reading struct {
	at  time.Time
	cpu time.Duration
	// rate is in nanoseconds of CPU per second.
	rate uint64
}

// leastRate is the shortest time a rate is taken over: a shorter one says nothing.
const leastRate = time.Second

func newRates() *rates { return &rates{last: map[string]reading{}} }

// begin starts a round of readings.
func (r *rates) begin() {
	r.mu.Lock()
	r.next = make(map[string]reading, len(r.last))
}

// end ends the round; what was not read in it is forgotten.
func (r *rates) end() {
	r.last, r.next = r.next, nil
	r.mu.Unlock()
}

// rate gives the rate of what goes by a name; nil when it was never read before.
func (r *rates) rate(name string, u *cgroup.Usage) *uint64 {
	now := reading{at: u.At, cpu: u.CPU}
	before, ok := r.last[name]
	switch took := now.at.Sub(before.at); {
	case !ok || now.cpu < before.cpu:
		r.next[name] = now
		return nil
	case took < leastRate:
		now = before
	default:
		now.rate = uint64(float64(now.cpu-before.cpu) / took.Seconds())
	}
	r.next[name] = now
	if now.rate == 0 && before.rate == 0 && now.at.Equal(before.at) {
		return nil // there was only one reading yet
	}
	rate := now.rate
	return &rate
}
