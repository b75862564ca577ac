package metrics

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// registered are the names and labels of a registry, with and without samples, as "name{label,label}".
func registered(r *Registry) []string {
	ch := make(chan *prometheus.Desc)
	go func() { r.reg.Describe(ch); close(ch) }()
	var all []string
	for d := range ch {
		_, name, _ := strings.Cut(d.String(), `fqName: "`)
		name, rest, _ := strings.Cut(name, `"`)
		_, labels, _ := strings.Cut(rest, "variableLabels: {")
		labels, _, _ = strings.Cut(labels, "}")
		all = append(all, name+"{"+labels+"}")
	}
	slices.Sort(all)
	return all
}

// kubelet are upstream's names and labels (v1.36, pkg/kubelet/metrics) that dashboards and alerts ask for.
const kubelet = `
kubelet_active_pods{static}
kubelet_admission_rejections_total{reason}
kubelet_certificate_manager_client_ttl_seconds{}
kubelet_cpu_manager_exclusive_cpu_allocation_count{}
kubelet_cpu_manager_pinning_errors_total{}
kubelet_cpu_manager_pinning_requests_total{}
kubelet_cpu_manager_shared_pool_size_millicores{}
kubelet_desired_pods{static}
kubelet_device_plugin_alloc_duration_seconds{resource_name}
kubelet_device_plugin_registration_total{resource_name}
kubelet_evictions{eviction_signal}
kubelet_http_requests_duration_seconds{method,path,server_type,long_running}
kubelet_http_requests_total{method,path,server_type,long_running}
kubelet_image_garbage_collected_total{reason}
kubelet_managed_ephemeral_containers{}
kubelet_mirror_pods{}
kubelet_node_name{node}
kubelet_orphan_pod_cleaned_volumes_errors{}
kubelet_orphan_pod_cleaned_volumes{}
kubelet_orphaned_runtime_pods_total{}
kubelet_pleg_last_seen_seconds{}
kubelet_pleg_relist_duration_seconds{}
kubelet_pleg_relist_interval_seconds{}
kubelet_pod_resources_endpoint_errors_get_allocatable{server_api_version}
kubelet_pod_resources_endpoint_errors_get{server_api_version}
kubelet_pod_resources_endpoint_errors_list{server_api_version}
kubelet_pod_resources_endpoint_requests_get_allocatable{server_api_version}
kubelet_pod_resources_endpoint_requests_get{server_api_version}
kubelet_pod_resources_endpoint_requests_list{server_api_version}
kubelet_pod_resources_endpoint_requests_total{server_api_version}
kubelet_pod_start_duration_seconds{}
kubelet_pod_start_sli_duration_seconds{}
kubelet_pod_start_total_duration_seconds{}
kubelet_pod_status_sync_duration_seconds{}
kubelet_pod_worker_duration_seconds{operation_type}
kubelet_pod_worker_start_duration_seconds{}
kubelet_preemptions{preemption_signal}
kubelet_run_podsandbox_duration_seconds{runtime_handler}
kubelet_run_podsandbox_errors_total{runtime_handler}
kubelet_running_containers{container_state}
kubelet_running_pods{}
kubelet_runtime_operations_duration_seconds{operation_type}
kubelet_runtime_operations_errors_total{operation_type}
kubelet_runtime_operations_total{operation_type}
kubelet_started_containers_errors_total{container_type,code}
kubelet_started_containers_total{container_type}
kubelet_started_pods_errors_total{}
kubelet_started_pods_total{}
kubelet_topology_manager_admission_errors_total{}
kubelet_topology_manager_admission_requests_total{}
kubelet_volume_stats_available_bytes{namespace,persistentvolumeclaim}
kubelet_volume_stats_capacity_bytes{namespace,persistentvolumeclaim}
kubelet_volume_stats_inodes_free{namespace,persistentvolumeclaim}
kubelet_volume_stats_inodes_used{namespace,persistentvolumeclaim}
kubelet_volume_stats_inodes{namespace,persistentvolumeclaim}
kubelet_volume_stats_used_bytes{namespace,persistentvolumeclaim}
kubelet_working_pods{lifecycle,config,static}
rest_client_request_duration_seconds{verb,host}
rest_client_requests_total{code,method,host}
storage_operation_duration_seconds{volume_plugin,operation_name,status,migrated}
csi_operations_seconds{driver_name,method_name,grpc_status_code,migrated}
`

// Every name is there, with upstream's labels, before anything has happened: dashboards ask by both.
func TestKubeletNames(t *testing.T) {
	r := New()
	r.Runtime()
	r.Pods()
	r.Relist()
	r.NodeName("a")
	r.Counts(nil)
	r.HTTP()
	r.Evictions()
	r.ImagesCollected()
	r.Exclusive()
	r.CPUs(nil)
	r.PodResources()
	r.VolumeStats(nil)
	r.OrphanVolumes()
	r.Storage()
	r.REST()
	r.CertificateTTL("client", nil)
	want := strings.Fields(kubelet)
	slices.Sort(want)
	if got := registered(r); !slices.Equal(got, want) {
		t.Errorf("registered:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestOrphanVolumes(t *testing.T) {
	r := New()
	told := r.OrphanVolumes()
	told("a", errNo)
	told("a", errNo)
	told("b", nil)
	wants(t, text(t, r), "kubelet_orphan_pod_cleaned_volumes 1", "kubelet_orphan_pod_cleaned_volumes_errors 1")
	told("a", nil)
	wants(t, text(t, r), "kubelet_orphan_pod_cleaned_volumes 2", "kubelet_orphan_pod_cleaned_volumes_errors 0")
}

func TestExclusive(t *testing.T) {
	r := New()
	m, api := r.Exclusive(), r.PodResources()
	m.Pinned(nil)
	m.Pinned(errNo)
	m.Aligned(true)
	m.Aligned(false)
	r.CPUs(func() (given, free int) { return 2, 5 })
	api.Asked("Get")
	api.Failed("Get")
	wants(t, text(t, r),
		"kubelet_topology_manager_admission_requests_total 2", "kubelet_topology_manager_admission_errors_total 1",
		"kubelet_cpu_manager_pinning_requests_total 2", "kubelet_cpu_manager_pinning_errors_total 1",
		"kubelet_cpu_manager_exclusive_cpu_allocation_count 2", "kubelet_cpu_manager_shared_pool_size_millicores 5000",
		`kubelet_pod_resources_endpoint_requests_get{server_api_version="v1"} 1`, `kubelet_pod_resources_endpoint_errors_get{server_api_version="v1"} 1`,
		`kubelet_pod_resources_endpoint_requests_total{server_api_version="v1"} 1`)
}

// kubeProxy are all of upstream's names and labels (v1.36, pkg/proxy/metrics).
const kubeProxy = `
kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family}
kubeproxy_conntrack_reconciler_sync_duration_seconds{ip_family}
kubeproxy_iptables_ct_state_invalid_dropped_packets_total{}
kubeproxy_iptables_localhost_nodeports_accepted_packets_total{}
kubeproxy_network_programming_duration_seconds{ip_family}
kubeproxy_proxy_healthz_total{code}
kubeproxy_proxy_livez_total{code}
kubeproxy_sync_full_proxy_rules_duration_seconds{ip_family}
kubeproxy_sync_partial_proxy_rules_duration_seconds{ip_family}
kubeproxy_sync_proxy_rules_duration_seconds{ip_family}
kubeproxy_sync_proxy_rules_endpoint_changes_pending{}
kubeproxy_sync_proxy_rules_endpoint_changes_total{}
kubeproxy_sync_proxy_rules_iptables_last{table,ip_family}
kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family}
kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family}
kubeproxy_sync_proxy_rules_iptables_total{table,ip_family}
kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family}
kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family}
kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total{ip_family}
kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family}
kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy,ip_family}
kubeproxy_sync_proxy_rules_service_changes_pending{}
kubeproxy_sync_proxy_rules_service_changes_total{}
`

// Every one of kube-proxy's names is there, or docs/proxy.md says why not.
func TestKubeProxyNames(t *testing.T) {
	r := New()
	r.Proxy()
	r.NoLocalEndpoints(nil)
	r.Pending(nil)
	r.Rules(nil)
	r.RulePackets(nil)
	r.Health("healthz")
	r.Health("livez")
	got := registered(r)
	docs, err := os.ReadFile("../../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range strings.Fields(kubeProxy) {
		name, _, _ := strings.Cut(want, "{")
		if omitted := strings.Contains(string(docs), "Not there: `"+name+"`"); slices.Contains(got, want) == omitted {
			t.Errorf("%s: registered %t, docs/proxy.md says that it is not there: %t", want, !omitted, omitted)
		}
	}
	for _, name := range got {
		if !slices.Contains(strings.Fields(kubeProxy), name) {
			t.Errorf("%s is none of kube-proxy's", name)
		}
	}
}

// Upstream's buckets are among ours: what a dashboard asks for by le is there.
func TestKubeProxyBuckets(t *testing.T) {
	var programming, sync []float64
	for le := 0.001; len(sync) < 15; le *= 2 {
		sync = append(sync, le)
	}
	programming = append(programming, 0.25, 0.5)
	for le := 1.0; le <= 59; le++ {
		programming = append(programming, le)
	}
	for le := 60.0; le <= 115; le += 5 {
		programming = append(programming, le)
	}
	for le := 120.0; le <= 300; le += 30 {
		programming = append(programming, le)
	}
	for name, b := range map[string][2][]float64{"sync": {sync, syncBuckets}, "network programming": {programming, programmingBuckets}} {
		if !slices.IsSorted(b[1]) {
			t.Errorf("%s: not in order: %v", name, b[1])
		}
		for _, le := range b[0] {
			if !slices.Contains(b[1], le) {
				t.Errorf("%s: no bucket %v in %v", name, le, b[1])
			}
		}
	}
}

func TestProxy(t *testing.T) {
	r := New()
	m := r.Proxy()
	now := time.Unix(100, 0)
	m.Begun(true, now)
	m.Synced(Round{Mode: "iptables", Full: true, Err: errNo}, now)
	m.Synced(Round{Mode: "iptables", Err: errNo}, now)
	m.Synced(Round{Mode: "nftables", Err: errNo}, now)
	m.Synced(Round{Mode: "iptables", IPv6: true, Idle: true}, now.Add(time.Second))
	r.Pending(func() (int, int) { return 2, 3 })
	r.Rules(func() []Rules { return []Rules{{"nat", "IPv6", 40, 4}} })
	r.RulePackets(func() (uint64, uint64, bool) { return 5, 6, true })
	wants(t, text(t, r),
		`kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"} 100`,
		`kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 101`, `kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 101`,
		`kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 3`, `kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1`,
		`kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 2`,
		`kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 1`,
		`kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 1`,
		"kubeproxy_sync_proxy_rules_service_changes_pending 2", "kubeproxy_sync_proxy_rules_endpoint_changes_pending 3",
		`kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv6",table="nat"} 40`, `kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv6",table="nat"} 4`,
		"kubeproxy_iptables_ct_state_invalid_dropped_packets_total 5", "kubeproxy_iptables_localhost_nodeports_accepted_packets_total 6")
}
