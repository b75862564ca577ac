package metrics

import "time"

// CPUs makes kubelet_cpu_manager_exclusive_cpu_allocation_count and the size of the pool that is left; read
// gives the CPUs that containers have to themselves, and those that they still could have.
func (r *Registry) CPUs(read func() (given, free int)) {
	given := &Desc{Name: "kubelet_cpu_manager_exclusive_cpu_allocation_count", Help: "CPUs that containers have to themselves."}
	free := &Desc{Name: "kubelet_cpu_manager_shared_pool_size_millicores", Help: "CPU that containers share and could have to themselves, in thousandths."}
	r.OnScrape(func(e *Emitter) {
		g, f := read()
		e.Value(given, float64(g))
		e.Value(free, float64(f)*1000)
	}, given, free)
}

// Exclusive counts what is given to containers alone.
type Exclusive struct {
	registered, pinned, unpinned func(float64, ...string)
	aligned, unaligned           func(float64, ...string)
	allocated                    func(time.Duration, ...string)
}

// Exclusive makes kubelet_device_plugin_* and kubelet_cpu_manager_pinning_*.
func (r *Registry) Exclusive() *Exclusive {
	return &Exclusive{
		registered: r.Counter("kubelet_device_plugin_registration_total", "Registrations of device plugins.", "resource_name"),
		allocated:  r.Histogram("kubelet_device_plugin_alloc_duration_seconds", "How long plugins took to prepare devices.", defaultBuckets, "resource_name"),
		pinned:     r.Counter("kubelet_cpu_manager_pinning_requests_total", "Containers that asked for CPUs of their own."),
		unpinned:   r.Counter("kubelet_cpu_manager_pinning_errors_total", "Containers that could not have CPUs of their own."),
		aligned:    r.Counter("kubelet_topology_manager_admission_requests_total", "Containers, or pods, for which NUMA nodes were sought that suit all they ask for."),
		unaligned:  r.Counter("kubelet_topology_manager_admission_errors_total", "Containers, or pods, that were refused for want of such nodes."),
	}
}

// Registered notes that a device plugin came.
func (m *Exclusive) Registered(resource string) { m.registered(1, resource) }

// Allocated notes how long a plugin took to prepare devices.
func (m *Exclusive) Allocated(resource string, took time.Duration) { m.allocated(took, resource) }

// Pinned notes a container that asked for CPUs of its own, and whether it got them.
func (m *Exclusive) Pinned(err error) {
	m.pinned(1)
	if err != nil {
		m.unpinned(1)
	}
}

// Aligned notes that NUMA nodes were sought, and whether the pod was let in.
func (m *Exclusive) Aligned(admitted bool) {
	m.aligned(1)
	if !admitted {
		m.unaligned(1)
	}
}

// PodResources counts calls of the PodResources API.
type PodResources struct {
	total         func(float64, ...string)
	asked, failed map[string]func(float64, ...string)
}

// PodResources makes kubelet_pod_resources_endpoint_*.
func (r *Registry) PodResources() *PodResources {
	const label = "server_api_version"
	m := &PodResources{
		total: r.Counter("kubelet_pod_resources_endpoint_requests_total", "Calls of the PodResources API.", label),
		asked: map[string]func(float64, ...string){}, failed: map[string]func(float64, ...string){},
	}
	for method, name := range map[string]string{"List": "list", "Get": "get", "GetAllocatableResources": "get_allocatable"} {
		m.asked[method] = r.Counter("kubelet_pod_resources_endpoint_requests_"+name, "Calls of "+method+" of the PodResources API.", label)
		m.failed[method] = r.Counter("kubelet_pod_resources_endpoint_errors_"+name, "Calls of "+method+" that failed.", label)
	}
	return m
}

// Asked notes a call of List, Get or GetAllocatableResources.
func (m *PodResources) Asked(method string) {
	m.total(1, "v1")
	m.asked[method](1, "v1")
}

// Failed notes that a call failed.
func (m *PodResources) Failed(method string) { m.failed[method](1, "v1") }
