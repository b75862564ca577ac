package nodeplan

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// resources writes capacity and allocatable. Resources that others advertise (extended resources of
// device plugins or of an administrator) stay.
func resources(s *corev1.NodeStatus, f Facts) {
	if s.Capacity == nil {
		s.Capacity = corev1.ResourceList{}
	}
	capacity := Capacity(f.Machine, f.Reserve)
	for name := range s.Capacity {
		if _, is := capacity[name]; !is && strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			delete(s.Capacity, name) // the kernel no longer offers this page size
		}
	}
	for name, q := range capacity {
		s.Capacity[name] = q
	}
	s.Allocatable = allocatable(s.Capacity, f.Reserve)
	for _, d := range f.Devices {
		name := corev1.ResourceName(d.Name)
		s.Capacity[name] = *resource.NewQuantity(d.Capacity, resource.DecimalSI)
		s.Allocatable[name] = *resource.NewQuantity(d.Allocatable, resource.DecimalSI)
	}
}

// Capacity is all the machine has.
func Capacity(m Machine, r Reserve) corev1.ResourceList {
	pods := r.MaxPods
	if r.PodsPerCore > 0 {
		pods = min(pods, m.CPUs*r.PodsPerCore)
	}
	list := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewMilliQuantity(int64(m.CPUs)*1000, resource.DecimalSI),
		corev1.ResourceMemory:           *bytes(m.Memory),
		corev1.ResourceEphemeralStorage: *bytes(m.EphemeralStorage),
		corev1.ResourcePods:             *resource.NewQuantity(int64(pods), resource.DecimalSI),
	}
	for size, total := range m.HugePages {
		page := bytes(size)
		list[corev1.ResourceName(corev1.ResourceHugePagesPrefix+page.String())] = *bytes(total)
	}
	return list
}

// Enforceable is what all pods together may use: capacity without what is reserved for the system
// and for Kubernetes. Eviction thresholds are not taken off: they are to be reached before the limit.
func Enforceable(m Machine, r Reserve) corev1.ResourceList {
	r.EvictMemory, r.EvictStorage = 0, 0
	return allocatable(Capacity(m, r), r)
}

// Allocatable is what the scheduler may give to pods.
func Allocatable(m Machine, r Reserve) corev1.ResourceList { return allocatable(Capacity(m, r), r) }

func allocatable(capacity corev1.ResourceList, r Reserve) corev1.ResourceList {
	list := make(corev1.ResourceList, len(capacity))
	for name, q := range capacity {
		left := q.DeepCopy()
		left.Sub(r.Kube[name])
		left.Sub(r.System[name])
		switch name {
		case corev1.ResourceMemory:
			left.Sub(*bytes(r.EvictMemory))
		case corev1.ResourceEphemeralStorage:
			left.Sub(*bytes(r.EvictStorage))
		}
		list[name] = atLeastZero(left)
	}
	// Huge pages are set aside at boot: ordinary memory is less by them.
	memory := list[corev1.ResourceMemory]
	for name, q := range capacity {
		if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
			memory.Sub(q)
		}
	}
	list[corev1.ResourceMemory] = atLeastZero(memory)
	return list
}

func atLeastZero(q resource.Quantity) resource.Quantity {
	if q.Sign() < 0 {
		q.Set(0)
	}
	return q
}

func bytes(n uint64) *resource.Quantity {
	return resource.NewQuantity(int64(min(n, 1<<62)), resource.BinarySI)
}

// CheckReserve says what is wrong with a reservation: more than there is cannot be set aside.
func CheckReserve(m Machine, r Reserve) error {
	for name, q := range Capacity(m, r) {
		want := r.Kube[name].DeepCopy()
		want.Add(r.System[name])
		switch name {
		case corev1.ResourceMemory:
			want.Add(*bytes(r.EvictMemory))
		case corev1.ResourceEphemeralStorage:
			want.Add(*bytes(r.EvictStorage))
		}
		if want.Cmp(q) > 0 {
			return fmt.Errorf("reserve %s of %s: this machine has %s: lower kubeReserved, systemReserved or evictionHard", want.String(), name, q.String())
		}
	}
	return nil
}
