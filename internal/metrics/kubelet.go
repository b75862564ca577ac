package metrics

import (
	"strings"
	"time"
	"unicode"
)

// Buckets as upstream has them, in seconds.
var (
	// runtimeBuckets run from 5 ms to about 200 s.
	runtimeBuckets = exponential(0.005, 2.5, 14)
	// startBuckets are those of kubelet_pod_start_sli_duration_seconds.
	startBuckets = []float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}
	// statusBuckets are those of kubelet_pod_status_sync_duration_seconds.
	statusBuckets = []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 10, 20, 30, 45, 60}
	// defaultBuckets are Prometheus's own.
	defaultBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

func exponential(start, factor float64, count int) []float64 {
	b := make([]float64, count)
	for i := range b {
		b[i] = start
		start *= factor
	}
	return b
}

// Runtime counts calls to the container runtime.
type Runtime struct {
	total    func(float64, ...string)
	errors   func(float64, ...string)
	duration func(time.Duration, ...string)
}

// Runtime makes kubelet_runtime_operations_*.
func (r *Registry) Runtime() *Runtime {
	return &Runtime{
		total:    r.Counter("kubelet_runtime_operations_total", "Calls to the container runtime.", "operation_type"),
		errors:   r.Counter("kubelet_runtime_operations_errors_total", "Calls to the container runtime that failed.", "operation_type"),
		duration: r.Histogram("kubelet_runtime_operations_duration_seconds", "How long calls to the container runtime took.", runtimeBuckets, "operation_type"),
	}
}

// Observe is told of one finished call; op is the name of the RPC.
func (m *Runtime) Observe(op string, took time.Duration, err error) {
	label := operation(op)
	m.total(1, label)
	m.duration(took, label)
	if err != nil {
		m.errors(1, label)
	}
}

// operation writes an RPC's name the way upstream labels it: RunPodSandbox is run_podsandbox.
func operation(rpc string) string {
	rpc = strings.Replace(rpc, "PodSandbox", "Podsandbox", 1)
	var b strings.Builder
	for i, c := range rpc {
		if unicode.IsUpper(c) {
			if i > 0 {
				b.WriteByte('_')
			}
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	return b.String()
}

// Relist counts full looks at the runtime.
type Relist struct {
	duration, interval func(time.Duration, ...string)
	lastSeen           func(float64, ...string)
	last               time.Time
}

// Relist makes kubelet_pleg_*.
func (r *Registry) Relist() *Relist {
	return &Relist{
		duration: r.Histogram("kubelet_pleg_relist_duration_seconds", "How long a full look at the runtime took.", defaultBuckets),
		interval: r.Histogram("kubelet_pleg_relist_interval_seconds", "Time between two full looks at the runtime.", defaultBuckets),
		lastSeen: r.Gauge("kubelet_pleg_last_seen_seconds", "When the runtime was last looked at, in seconds since 1970."),
	}
}

// Done notes a full look at the runtime that has just ended. It is for one caller at a time.
func (m *Relist) Done(now time.Time, took time.Duration) {
	m.duration(took)
	if !m.last.IsZero() {
		m.interval(now.Sub(m.last))
	}
	m.last = now
	m.lastSeen(float64(now.UnixNano()) / 1e9)
}

// NodeName makes kubelet_node_name, a constant 1 that carries the name.
func (r *Registry) NodeName(name string) {
	r.Gauge("kubelet_node_name", "A constant 1, labelled with the name of the node.", "node")(1, name)
}

// Counts is read for each scrape.
type Counts struct {
	// DesiredPods and ActivePods are keyed by whether the pods are static.
	DesiredPods, ActivePods map[bool]int
	RunningPods, MirrorPods int
	// RunningContainers is keyed by the state of the containers: running, exited, created, unknown.
	RunningContainers map[string]int
	// EphemeralContainers are those of the pods of this node.
	EphemeralContainers int
	WorkingPods         map[WorkingPod]int
}

// WorkingPod is a kind of pod that something is done about.
type WorkingPod struct {
	// Lifecycle is sync, terminating or terminated.
	Lifecycle string
	// Config is desired, or runtime_only for what nobody wants any more; Static is "", true, or unknown for the latter.
	Config, Static string
}

// Counts makes kubelet_running_pods and its kin from what read tells.
func (r *Registry) Counts(read func() Counts) {
	desired := &Desc{Name: "kubelet_desired_pods", Help: "Pods assigned to this node.", Labels: []string{"static"}}
	running := &Desc{Name: "kubelet_running_pods", Help: "Pods with a running sandbox."}
	active := &Desc{Name: "kubelet_active_pods", Help: "Pods that are not terminal.", Labels: []string{"static"}}
	mirrors := &Desc{Name: "kubelet_mirror_pods", Help: "Images of static pods in the API."}
	ephemeral := &Desc{Name: "kubelet_managed_ephemeral_containers", Help: "Ephemeral containers of the pods of this node."}
	working := &Desc{Name: "kubelet_working_pods", Help: "Pods that something is done about, by what.", Labels: []string{"lifecycle", "config", "static"}}
	containers := &Desc{Name: "kubelet_running_containers", Help: "Containers in the runtime by state.", Labels: []string{"container_state"}}
	r.OnScrape(func(e *Emitter) {
		c := read()
		for static, label := range map[bool]string{false: "", true: "true"} {
			e.Value(desired, float64(c.DesiredPods[static]), label)
			e.Value(active, float64(c.ActivePods[static]), label)
		}
		e.Value(mirrors, float64(c.MirrorPods))
		e.Value(running, float64(c.RunningPods))
		e.Value(ephemeral, float64(c.EphemeralContainers))
		for state, n := range c.RunningContainers {
			e.Value(containers, float64(n), state)
		}
		for kind, n := range c.WorkingPods {
			e.Value(working, float64(n), kind.Lifecycle, kind.Config, kind.Static)
		}
	}, desired, running, active, mirrors, ephemeral, containers, working)
}

// HTTP counts requests to the kubelet API.
type HTTP struct {
	total    func(float64, ...string)
	duration func(time.Duration, ...string)
}

// HTTP makes kubelet_http_requests_*.
func (r *Registry) HTTP() *HTTP {
	labels := []string{"method", "path", "server_type", "long_running"}
	return &HTTP{
		total:    r.Counter("kubelet_http_requests_total", "Requests to the kubelet API.", labels...),
		duration: r.Histogram("kubelet_http_requests_duration_seconds", "How long requests to the kubelet API took.", defaultBuckets, labels...),
	}
}

// Request is told of one finished request; path is one of a fixed set, not what a client sent.
func (m *HTTP) Request(method, path string, long bool, took time.Duration) {
	running := "false"
	if long {
		running = "true"
	}
	m.total(1, method, path, "readwrite", running)
	m.duration(took, method, path, "readwrite", running)
}

// Evictions makes kubelet_evictions: the function is told of each pod, with what ran short.
func (r *Registry) Evictions() func(signal string) {
	add := r.Counter("kubelet_evictions", "Pods evicted, by what ran short.", "eviction_signal")
	return func(signal string) { add(1, signal) }
}

// ImagesCollected makes kubelet_image_garbage_collected_total: the function is told of each image, with age or space.
func (r *Registry) ImagesCollected() func(reason string) {
	add := r.Counter("kubelet_image_garbage_collected_total", "Images removed because nobody uses them.", "reason")
	return func(reason string) { add(1, reason) }
}
