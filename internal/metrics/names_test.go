package metrics

import (
	"slices"
	"strings"
	"testing"

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
