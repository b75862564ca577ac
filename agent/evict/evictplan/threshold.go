package evictplan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that may run short, by the name it has in KubeletConfiguration.
type Signal string

// The signals.
const (
	MemoryAvailable            Signal = "memory.available"
	AllocatableMemoryAvailable Signal = "allocatableMemory.available" // of all pods together
	NodeFsAvailable            Signal = "nodefs.available"
	NodeFsInodesFree           Signal = "nodefs.inodesFree"
	ImageFsAvailable           Signal = "imagefs.available"
	ImageFsInodesFree          Signal = "imagefs.inodesFree"
	ContainerFsAvailable       Signal = "containerfs.available"
	ContainerFsInodesFree      Signal = "containerfs.inodesFree"
	PIDAvailable               Signal = "pid.available"
)

// The resources that messages name; inodes and pids are not resources of the API.
const (
	inodes corev1.ResourceName = "inodes"
	pids   corev1.ResourceName = "pids"
)

// resource is what a signal is about; empty for what is no signal.
func (s Signal) resource() corev1.ResourceName {
	switch s {
	case MemoryAvailable, AllocatableMemoryAvailable:
		return corev1.ResourceMemory
	case NodeFsAvailable, ImageFsAvailable, ContainerFsAvailable:
		return corev1.ResourceEphemeralStorage
	case NodeFsInodesFree, ImageFsInodesFree, ContainerFsInodesFree:
		return inodes
	case PIDAvailable:
		return pids
	}
	return ""
}

// condition is what the node shows while a signal is short.
func (s Signal) condition() corev1.NodeConditionType {
	switch s.resource() {
	case corev1.ResourceMemory:
		return corev1.NodeMemoryPressure
	case pids:
		return corev1.NodePIDPressure
	}
	return corev1.NodeDiskPressure
}

// Amount is a quantity, or a share of what there is.
type Amount struct {
	Value int64
	// Share is from 0 to 1; 0 means that Value counts. Cap bounds what a share comes to; 0: nothing does.
	Share float64
	Cap   int64
}

// Of is the amount, of something that has that capacity.
func (a Amount) Of(capacity uint64) int64 {
	if a.Share > 0 {
		n := int64(float64(capacity) * a.Share)
		if a.Cap > 0 {
			n = min(n, a.Cap)
		}
		return n
	}
	return a.Value
}

// Threshold is where a signal begins to be short.
type Threshold struct {
	Signal Signal
	Value  Amount
	// Soft thresholds must be crossed for Grace before anything is done.
	Soft  bool
	Grace time.Duration
	// MinReclaim is how much above Value must be free again.
	MinReclaim Amount
}

// String is one line, like "memory.available<104857600".
func (t Threshold) String() string {
	s := fmt.Sprintf("%s<%d", t.Signal, t.Value.Value)
	if t.Value.Share > 0 {
		s = fmt.Sprintf("%s<%g%%", t.Signal, t.Value.Share*100)
	}
	if t.Soft {
		s += fmt.Sprintf(" for %s", t.Grace)
	}
	return s
}

// Statements are thresholds as KubeletConfiguration has them: evictionHard, evictionSoft,
// evictionSoftGracePeriod and evictionMinimumReclaim.
type Statements struct {
	Hard, Soft, SoftGrace, MinReclaim map[string]string
	// MergeDefaults is mergeDefaultEvictionSettings: what Hard does not name is as without Hard.
	MergeDefaults bool
}

// DefaultHard is what upstream takes on Linux when evictionHard is not given.
func DefaultHard() map[string]string {
	return map[string]string{
		string(MemoryAvailable): "100Mi", string(NodeFsAvailable): "10%", string(NodeFsInodesFree): "5%",
		string(ImageFsAvailable): "15%", string(ImageFsInodesFree): "5%",
	}
}

// defaultCap bounds the shares of disks in the defaults: a disk with so much free is not short of space,
// however big it is. What a configuration says is taken as it is.
const defaultCap = 2 << 30

// Complete reads thresholds; where there are no hard ones those of DefaultHard are taken, each at most
// 2 GiB of a disk.
func Complete(s Statements) ([]Threshold, error) {
	said := s.Hard
	if said != nil && !s.MergeDefaults {
		return Parse(s)
	}
	s.Hard = DefaultHard()
	maps.Copy(s.Hard, said)
	all, err := Parse(s)
	for i := range all {
		t := &all[i]
		if _, ok := said[string(t.Signal)]; !ok && !t.Soft && t.Signal.resource() == corev1.ResourceEphemeralStorage {
			t.Value.Cap = defaultCap
		}
	}
	return all, err
}

// Parse reads thresholds. The hard one for memory holds for all pods together as well.
func Parse(s Statements) ([]Threshold, error) {
	var all []Threshold
	for _, name := range slices.Sorted(maps.Keys(s.Hard)) {
		t, ok, err := parse("evictionHard", name, s.Hard[name])
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, t)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Soft)) {
		t, ok, err := parse("evictionSoft", name, s.Soft[name])
		if err != nil {
			return nil, err
		}
		grace, has := s.SoftGrace[name]
		if !has {
			return nil, fmt.Errorf("evictionSoft %s: it needs an evictionSoftGracePeriod", name)
		}
		if t.Grace, err = time.ParseDuration(grace); err != nil || t.Grace < 0 {
			return nil, fmt.Errorf("evictionSoftGracePeriod %s: %q is not a duration from 0 on", name, grace)
		}
		if t.Soft = true; ok {
			all = append(all, t)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.MinReclaim)) {
		reclaim, ok, err := parse("evictionMinimumReclaim", name, s.MinReclaim[name])
		if err != nil {
			return nil, err
		}
		for i := range all {
			if ok && string(all[i].Signal) == name {
				all[i].MinReclaim = reclaim.Value
			}
		}
	}
	for _, t := range slices.Clone(all) {
		if t.Signal == MemoryAvailable && !t.Soft {
			t.Signal = AllocatableMemoryAvailable
			all = append(all, t)
		}
	}
	return all, nil
}

// parse reads one statement. 0 % and 100 % switch a threshold off, as upstream.
func parse(field, name, value string) (Threshold, bool, error) {
	t := Threshold{Signal: Signal(name)}
	if t.Signal.resource() == "" || t.Signal == AllocatableMemoryAvailable {
		return t, false, fmt.Errorf("%s %q: there is no such signal", field, name)
	}
	if percent, ok := strings.CutSuffix(value, "%"); ok {
		p, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(p >= 0 && p <= 100) {
			return t, false, fmt.Errorf("%s %s: %q is not a share from 0%% to 100%%", field, name, value)
		}
		t.Value.Share = p / 100
		return t, p > 0 && p < 100, nil
	}
	q, err := resource.ParseQuantity(value)
	if err != nil || q.Sign() < 0 {
		return t, false, fmt.Errorf("%s %s: %q is neither a quantity from 0 on nor a share", field, name, value)
	}
	t.Value.Value = q.Value()
	return t, true, nil
}

// byUrgency: memory first, because a machine without memory does nothing else.
func byUrgency(a, b Threshold) int {
	rank := func(t Threshold) int {
		if t.Signal.resource() == corev1.ResourceMemory {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.String(), b.String()))
}
