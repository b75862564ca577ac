package metrics

import (
	"slices"
	"strings"
	"time"
)

// Pods counts what happens to pods.
type Pods struct {
	startedPods, podErrors, sandboxErrors func(float64, ...string)
	sandbox                               func(time.Duration, ...string)
	startedContainers, containerErrors    func(float64, ...string)
	begun, start, startSLI, startTotal    func(time.Duration, ...string)
	worker, statusSync                    func(time.Duration, ...string)
	preempted, rejected, orphaned         func(float64, ...string)
}

// Pods makes the kubelet's metrics about admission, pod workers and pod starts.
func (r *Registry) Pods() *Pods {
	return &Pods{
		startedPods:       r.Counter("kubelet_started_pods_total", "Pod sandboxes started."),
		podErrors:         r.Counter("kubelet_started_pods_errors_total", "Pod sandboxes that could not be started."),
		sandbox:           r.Histogram("kubelet_run_podsandbox_duration_seconds", "How long the runtime took to make a sandbox.", defaultBuckets, "runtime_handler"),
		sandboxErrors:     r.Counter("kubelet_run_podsandbox_errors_total", "Sandboxes that the runtime could not make.", "runtime_handler"),
		startedContainers: r.Counter("kubelet_started_containers_total", "Containers started.", "container_type"),
		containerErrors:   r.Counter("kubelet_started_containers_errors_total", "Containers that could not be started.", "container_type", "code"),
		begun:             r.Histogram("kubelet_pod_worker_start_duration_seconds", "From first seeing a pod to the first round about it.", defaultBuckets),
		start:             r.Histogram("kubelet_pod_start_duration_seconds", "From first seeing a pod to its first sandbox.", startBuckets),
		startSLI:          r.Histogram("kubelet_pod_start_sli_duration_seconds", "From a pod's creation to all containers running, image pulls and init containers left out; pods with volumes that hold a state left out.", startBuckets),
		startTotal:        r.Histogram("kubelet_pod_start_total_duration_seconds", "From a pod's creation to all containers running.", startBuckets),
		worker:            r.Histogram("kubelet_pod_worker_duration_seconds", "One round of bringing one pod up to date.", defaultBuckets, "operation_type"),
		statusSync:        r.Histogram("kubelet_pod_status_sync_duration_seconds", "From a new status of a pod to its being written.", statusBuckets),
		preempted:         r.Counter("kubelet_preemptions", "Pods that had to make room for a critical one, by what was short.", "preemption_signal"),
		rejected:          r.Counter("kubelet_admission_rejections_total", "Pods that the node did not take.", "reason"),
		orphaned:          r.Counter("kubelet_orphaned_runtime_pods_total", "Pods found in the runtime that nobody knows."),
	}
}

// Begun notes the first round about a pod that was first seen that long ago.
func (m *Pods) Begun(seenAgo time.Duration) { m.begun(seenAgo) }

// Started notes a new sandbox of a pod that was first seen that long ago.
func (m *Pods) Started(seenAgo time.Duration) {
	m.startedPods(1)
	m.start(seenAgo)
}

// Sandbox notes a call that makes a sandbox, with the handler of the pod's RuntimeClass.
func (m *Pods) Sandbox(handler string, took time.Duration, err error) {
	m.sandbox(took, handler)
	if err != nil {
		m.sandboxErrors(1, handler)
		m.podErrors(1)
	}
}

// Running notes that all containers of a pod run for the first time.
func (m *Pods) Running(total time.Duration) { m.startTotal(total) }

// Ready notes the same of a pod without state, without the time of its image pulls and init containers.
func (m *Pods) Ready(took time.Duration) { m.startSLI(took) }

// Container notes the start of a container; kind is init_container, container or
// ephemeral_container, code the reason of a failure and empty otherwise.
func (m *Pods) Container(kind, code string) {
	m.startedContainers(1, kind)
	if code != "" {
		m.containerErrors(1, kind, code)
	}
}

// Synced notes one round of a pod's worker; operation is create, update, sync or kill.
func (m *Pods) Synced(operation string, took time.Duration) { m.worker(took, operation) }

// StatusWritten notes a status that reached the API server after that time.
func (m *Pods) StatusWritten(took time.Duration) { m.statusSync(took) }

// Preempted notes a pod that has to make room; short is the resource that is short.
func (m *Pods) Preempted(short string) { m.preempted(1, short) }

// Rejected notes a pod that the node does not take.
func (m *Pods) Rejected(reason string) { m.rejected(1, rejection(reason)) }

// Orphaned notes a pod of the runtime that nobody knows.
func (m *Pods) Orphaned() { m.orphaned(1) }

// rejection bounds the values of the label: reasons may hold the names of resources.
func rejection(reason string) string {
	known := []string{
		"AppArmor", "PodOSSelectorNodeLabelDoesNotMatch", "PodOSNotSupported", "SupplementalGroupsPolicyNotSupported",
		"UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "OutOfephemeral-storage", "OutOfpods", "TaintToleration", "NodeAffinity",
		"NodePorts", "Evicted", "SysctlForbidden", "NodeShutdown", "VolumeAttachmentLimitExceeded",
	}
	switch {
	case slices.Contains(known, reason):
		return reason
	case strings.HasPrefix(reason, "OutOf"):
		return "OutOfExtendedResources"
	}
	return "Other"
}
