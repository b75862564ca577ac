package evictplan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// hardGrace is how long the containers of a pod have that goes at once; upstream's.
const hardGrace = time.Second

// Observation is how much there is of something, and how much of it is free.
type Observation struct{ Available, Capacity uint64 }

// Layout says which of the node's file systems are the same.
type Layout struct {
	// ImageFs: images are on another file system than pods' local storage. ContainerFs: writable
	// layers are on another one than images.
	ImageFs, ContainerFs bool
}

// Facts is all that Make looks at.
type Facts struct {
	Now        time.Time
	Thresholds []Threshold
	// Observations has what could be measured.
	Observations map[Signal]Observation
	Layout       Layout
	// Pods are those that run here. Full: what they use was measured in full.
	Pods []Pod
	Full bool
	// Going: a pod that was evicted for pressure has not ended yet.
	Going bool
	// Reclaimed: what Plan.Reclaim asked for was done, and this is what came of it.
	Reclaimed bool
	// Transition is how long a condition stays after the pressure has gone; MaxGrace bounds the
	// grace period of a soft eviction.
	Transition, MaxGrace time.Duration
	State                State
}

// State is what one plan hands to the next.
type State struct {
	// Since is when each threshold was first found crossed, by its text.
	Since map[string]time.Time
	// Pressure is when each condition was last found.
	Pressure map[corev1.NodeConditionType]time.Time
	// Due are the thresholds that were acted upon: they stay until MinReclaim is free as well.
	Due map[string]bool
}

// Plan is what to do.
type Plan struct {
	State State
	// Conditions are those the node shows, sorted.
	Conditions []corev1.NodeConditionType
	// Need: what pods use must be measured in full, and Make be asked again.
	Need bool
	// Starved is the resource that something must be done about; empty when nothing must.
	Starved corev1.ResourceName
	// Reclaim: unused images are to be removed, and Make be asked again with Reclaimed.
	Reclaim bool
	Evict   []Eviction
}

// Eviction is one pod that must go.
type Eviction struct {
	Pod *corev1.Pod
	// Signal is what it goes for, as kubelet_evictions has it.
	Signal  string
	Message string
	Grace   time.Duration
	// Pressure: it goes for the others' sake, not for having broken a limit of its own.
	Pressure bool
}

// String is the plan in a few lines.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "conditions %v", p.Conditions)
	if p.Need {
		b.WriteString(" measure-pods")
	}
	if p.Starved != "" {
		fmt.Fprintf(&b, " starved %s", p.Starved)
	}
	if p.Reclaim {
		b.WriteString(" reclaim-images")
	}
	b.WriteByte('\n')
	for _, e := range p.Evict {
		fmt.Fprintf(&b, "evict %s/%s by %s grace %s: %s\n", e.Pod.Namespace, e.Pod.Name, e.Signal, e.Grace, e.Message)
	}
	return b.String()
}

// Make decides.
func Make(f Facts) Plan {
	m := maker{Facts: f}
	crossed := m.crossed()
	m.remember(crossed)
	var due []Threshold
	for _, t := range crossed {
		if !f.Now.Before(m.plan.State.Since[t.String()].Add(t.Grace)) {
			due = append(due, t)
			m.plan.State.Due[t.String()] = true
		}
	}
	slices.SortFunc(due, byUrgency)
	if !f.Full && (len(due) > 0 || slices.ContainsFunc(f.Pods, limited)) {
		m.plan.Need = true
		return m.plan
	}
	if m.overLimits(); len(m.plan.Evict) > 0 || len(due) == 0 {
		return m.plan
	}
	m.relieve(due)
	return m.plan
}

type maker struct {
	Facts
	plan Plan
}

// crossed are the thresholds that are crossed now, and those that were acted upon and have not yet
// enough free.
func (m *maker) crossed() []Threshold {
	var out []Threshold
	for _, t := range m.Thresholds {
		o, ok := m.Observations[t.Signal]
		if !ok {
			continue
		}
		limit := t.Value.Of(o.Capacity)
		if m.State.Due[t.String()] {
			limit += t.MinReclaim.Of(o.Capacity)
		}
		if o.Available < uint64(max(limit, 0)) {
			out = append(out, t)
		}
	}
	return out
}

// remember works out the new state and the conditions that follow from it.
func (m *maker) remember(crossed []Threshold) {
	s := State{Since: map[string]time.Time{}, Pressure: maps.Clone(m.State.Pressure), Due: map[string]bool{}}
	if s.Pressure == nil {
		s.Pressure = map[corev1.NodeConditionType]time.Time{}
	}
	for _, t := range crossed {
		since, ok := m.State.Since[t.String()]
		if !ok {
			since = m.Now
		}
		s.Since[t.String()] = since
		s.Pressure[t.Signal.condition()] = m.Now
	}
	now := func(c corev1.NodeConditionType) bool {
		return slices.ContainsFunc(crossed, func(t Threshold) bool { return t.Signal.condition() == c })
	}
	for c, last := range s.Pressure {
		if !now(c) && m.Now.Sub(last) >= m.Transition {
			delete(s.Pressure, c)
		}
	}
	m.plan.State = s
	m.plan.Conditions = slices.Sorted(maps.Keys(s.Pressure))
}

// relieve does something about the most urgent threshold.
func (m *maker) relieve(due []Threshold) {
	t := due[0]
	m.plan.Starved = t.Signal.resource()
	if !m.Reclaimed {
		if m.plan.Reclaim = m.reclaims(t.Signal); m.plan.Reclaim {
			return
		}
	} else if len(m.short()) == 0 {
		return // reclaiming was enough
	}
	if m.Going {
		return
	}
	for _, p := range m.rank(t.Signal) {
		if critical(p.Pod) {
			continue
		}
		e := Eviction{Pod: p.Pod, Signal: string(t.Signal), Message: m.message(t, p), Grace: hardGrace, Pressure: true}
		if t.Soft {
			e.Grace = m.MaxGrace
			if own := p.Pod.Spec.TerminationGracePeriodSeconds; own != nil {
				e.Grace = min(e.Grace, time.Duration(*own)*time.Second)
			}
		}
		m.plan.Evict = append(m.plan.Evict, e)
		return
	}
}

// short are the thresholds, of any grace, that have not yet all free that they ask for.
func (m *maker) short() []Threshold {
	var out []Threshold
	for _, t := range m.Thresholds {
		if o, ok := m.Observations[t.Signal]; ok && o.Available < uint64(max(t.Value.Of(o.Capacity)+t.MinReclaim.Of(o.Capacity), 0)) {
			out = append(out, t)
		}
	}
	return out
}

// reclaims tells whether unused images are in the way of a signal.
func (m *maker) reclaims(s Signal) bool {
	switch s {
	case ImageFsAvailable, ImageFsInodesFree:
		return true
	case NodeFsAvailable, NodeFsInodesFree:
		return !m.Layout.ImageFs
	case ContainerFsAvailable, ContainerFsInodesFree:
		return !m.Layout.ContainerFs
	}
	return false
}
