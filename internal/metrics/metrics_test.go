package metrics

import (
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

var errNo = errors.New("no")

// text scrapes a registry.
func text(t *testing.T, r *Registry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	r.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatalf("scrape: %d %s", rec.Code, rec.Body)
	}
	b, err := io.ReadAll(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wants(t *testing.T, got string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(got, l) {
			t.Errorf("no %q in\n%s", l, got)
		}
	}
}

func TestNames(t *testing.T) {
	r := NewProcess(Build{Version: "v1.36.3+nodelet", GoVersion: "go1.26", Platform: "linux/amd64"})
	rt := r.Runtime()
	rt.Observe("RunPodSandbox", 70*time.Millisecond, nil)
	rt.Observe("ImageFsInfo", time.Millisecond, errors.New("no"))
	pods := r.Pods()
	pods.Started(20 * time.Millisecond)
	pods.Running(time.Second)
	pods.Ready(100 * time.Millisecond)
	pods.Begun(time.Millisecond)
	pods.Sandbox("runsc", time.Millisecond, errors.New("no"))
	pods.Preempted("cpu")
	pods.Rejected("OutOfexample.com/gpu")
	pods.Rejected("my own")
	pods.Rejected("Evicted")
	pods.Orphaned()
	pods.Container("container", "")
	pods.Container("init_container", "ErrImagePull")
	r.Relist().Done(time.Unix(100, 0), time.Millisecond)
	r.NodeName("a")
	r.Counts(func() Counts {
		return Counts{EphemeralContainers: 2, WorkingPods: map[WorkingPod]int{{"terminating", "runtime_only", "unknown"}: 5}, DesiredPods: map[bool]int{true: 1, false: 3}, MirrorPods: 1, RunningPods: 2, RunningContainers: map[string]int{"running": 4}}
	})
	r.HTTP().Request("GET", "pods", false, time.Millisecond)
	p := r.Proxy()
	p.Synced(Round{IPv6: true, Took: 200 * time.Microsecond}, time.Unix(200, 0))
	p.Synced(Round{Full: true, Err: errors.New("no")}, time.Unix(300, 0))
	r.Applied(func() map[string]uint64 { return map[string]uint64{"dns": 7} })
	r.DNS(func() DNSStats {
		return DNSStats{
			Server:    "dns://10.96.0.10:53",
			Requests:  []DNSRequests{{Zone: "cluster.local.", Proto: "udp", Family: "1", Type: "A", Count: 9}},
			Durations: map[string]Histogram{".": {Buckets: map[float64]uint64{0.001: 5}, Count: 6, Sum: 0.5}},
			CacheHits: map[string]uint64{"success": 3, "denial": 2}, CacheMisses: 4, Prefetched: 5, Stale: 6, Rejected: 7,
			Programmed: Histogram{Buckets: map[float64]uint64{0.001: 8}, Count: 9}, SetupErrors: map[string]uint64{"iptables": 10},
		}
	})
	r.REST().Result("200", "GET", "127.0.0.1:6443")
	wants(t, text(t, r),
		`kubernetes_build_info{git_commit="",git_version="v1.36.3+nodelet",go_version="go1.26",platform="linux/amd64"} 1`,
		"process_start_time_seconds", "go_goroutines",
		`kubelet_runtime_operations_total{operation_type="run_podsandbox"} 1`,
		`kubelet_runtime_operations_errors_total{operation_type="image_fs_info"} 1`,
		`kubelet_runtime_operations_duration_seconds_count{operation_type="run_podsandbox"} 1`,
		"kubelet_started_pods_total 1", `kubelet_started_containers_errors_total{code="ErrImagePull",container_type="init_container"} 1`,
		"kubelet_pod_start_sli_duration_seconds_count 1", "kubelet_pleg_last_seen_seconds 100",
		`kubelet_node_name{node="a"} 1`, `kubelet_desired_pods{static="true"} 1`, "kubelet_mirror_pods 1", `kubelet_running_containers{container_state="running"} 4`, "kubelet_running_pods 2",
		"kubelet_pod_worker_start_duration_seconds_count 1", "kubelet_pod_start_total_duration_seconds_count 1",
		`kubelet_run_podsandbox_duration_seconds_count{runtime_handler="runsc"} 1`, `kubelet_run_podsandbox_errors_total{runtime_handler="runsc"} 1`, "kubelet_started_pods_errors_total 1",
		`kubelet_preemptions{preemption_signal="cpu"} 1`, "kubelet_orphaned_runtime_pods_total 1",
		`kubelet_admission_rejections_total{reason="OutOfExtendedResources"} 1`, `kubelet_admission_rejections_total{reason="Other"} 1`, `kubelet_admission_rejections_total{reason="Evicted"} 1`,
		`kubelet_working_pods{config="runtime_only",lifecycle="terminating",static="unknown"} 5`, "kubelet_managed_ephemeral_containers 2",
		`kubelet_http_requests_total{long_running="false",method="GET",path="pods",server_type="readwrite"} 1`,
		`kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1`,
		`kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 200`,
		`nodelet_programmed_revision{feature="dns"} 7`,
		`coredns_dns_requests_total{family="1",proto="udp",server="dns://10.96.0.10:53",type="A",view="",zone="cluster.local."} 9`,
		`coredns_dns_request_duration_seconds_bucket{server="dns://10.96.0.10:53",view="",zone=".",le="0.001"} 5`,
		`coredns_cache_requests_total{server="dns://10.96.0.10:53",view="",zones="."} 9`,
		`coredns_cache_prefetch_total{server="dns://10.96.0.10:53",view="",zones="."} 5`,
		`coredns_cache_served_stale_total{server="dns://10.96.0.10:53",view="",zones="."} 6`,
		"coredns_forward_max_concurrent_rejects_total 7",
		`coredns_kubernetes_dns_programming_duration_seconds_count{service_kind="headless_with_selector"} 9`,
		`coredns_nodecache_setup_errors_total{errortype="iptables"} 10`,
		`rest_client_requests_total{code="200",host="127.0.0.1:6443",method="GET"} 1`,
	)
}

func TestProbesAreForgotten(t *testing.T) {
	r := New()
	p := r.Probes()
	a := Probed{Type: "Liveness", Namespace: "n", Pod: "a", UID: "u1", Container: "c"}
	ready := a
	ready.Type = "Readiness"
	b := Probed{Type: "Liveness", Namespace: "n", Pod: "b", UID: "u2", Container: "c"}
	for _, probed := range []Probed{a, ready, b} {
		p.Count(probed, "failed", time.Second)
		p.Count(probed, "successful", time.Second)
	}
	wants(t, text(t, r),
		`prober_probe_total{container="c",namespace="n",pod="a",pod_uid="u1",probe_type="Liveness",result="failed"} 1`,
		`prober_probe_duration_seconds_count{container="c",namespace="n",pod="a",probe_type="Liveness"} 1`)
	p.Forget("Liveness", "u1", "c")
	got := text(t, r)
	wants(t, got, `pod_uid="u2"`, `pod_uid="u1",probe_type="Readiness"`)
	for _, gone := range []string{`pod_uid="u1",probe_type="Liveness"`, `pod="a",probe_type="Liveness"`} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is still there:\n%s", gone, got)
		}
	}
}

// Two registries in one process must not meet.
func TestNoGlobalState(t *testing.T) {
	a, b := NewProcess(Build{}), NewProcess(Build{})
	a.NodeName("a")
	if strings.Contains(text(t, b), "kubelet_node_name") {
		t.Error("a metric of one registry shows up in another")
	}
}

func TestScrapeWithoutDeclaration(t *testing.T) {
	r := New()
	good := &Desc{Name: "good", Help: "x"}
	r.OnScrape(func(e *Emitter) {
		e.Value(good, 1)
		e.Value(&Desc{Name: "bad"}, 1)
	}, good)
	wants(t, text(t, r), "good 1")
}
