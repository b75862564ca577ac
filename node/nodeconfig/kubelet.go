package nodeconfig

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/shutdown/shutdownplan"
	"nodelet/node"
)

// Reasons that several fields share.
const (
	whyNoCadvisor = "figures are read on demand, nothing is collected in between"
	whyNoPolling  = "nodelet waits for events instead of asking at intervals"
	whyNoManagers = "memory is not assigned exclusively by this version"
	whyNoVerify   = "an image that is on the node may be used by every pod; AlwaysPullImages of the API server asks the registry each time"
	whyNoIPTables = "the service proxy keeps its rules itself"
	whyOneServer  = "the kubelet API is always served, with these handlers"
)

// kubeletFields is what becomes of each field of KubeletConfiguration, in its order.
func kubeletFields() []field {
	return append(append(append(serverFields(), nodeFields()...), resourceFields()...), miscFields()...)
}

func serverFields() []field {
	return []field{
		{path: "enableServer", is: []string{"true"}, why: whyOneServer, zero: true},
		{path: "staticPodPath", flag: "pod-manifest-path"},
		{path: "podLogsDir", is: []string{"/var/log/pods"}, why: "follows --data-dir"},
		{path: "syncFrequency", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.SyncFrequency })},
		{path: "fileCheckFrequency", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.FileCheckFrequency })},
		{path: "httpCheckFrequency", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.HTTPCheckFrequency })},
		{path: "staticPodURL", flag: "manifest-url"},
		{path: "staticPodURLHeader", set: into(func(c *node.Config) *http.Header { return &c.Kubelet.StaticPodURLHeader })},
		{path: "address", set: into(func(c *node.Config) *netip.Addr { return &c.Kubelet.Address })},
		{path: "port", flag: "kubelet-port"},
		{path: "readOnlyPort", why: "there is no port without authentication"},
		{path: "tlsCertFile", set: into(func(c *node.Config) *string { return &c.Kubelet.TLSCertFile })},
		{path: "tlsPrivateKeyFile", set: into(func(c *node.Config) *string { return &c.Kubelet.TLSPrivateKeyFile })},
		{path: "tlsCipherSuites", set: cipherSuites},
		{path: "tlsCurvePreferences", why: "Go's own choice is used"},
		{path: "tlsMinVersion", set: tlsMinVersion},
		{path: "rotateCertificates", set: keepCertificate},
		{path: "serverTLSBootstrap", flag: "rotate-server-certificates"},
		{path: "authentication.x509.clientCAFile", set: into(func(c *node.Config) *string { return &c.Kubelet.ClientCAFile })},
		{path: "authentication.webhook.enabled", is: []string{"true"}, why: "bearer tokens are always checked by the API server", zero: true},
		{path: "authentication.webhook.cacheTTL", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.TokenTTL })},
		{path: "authentication.anonymous.enabled", is: []string{"false"}, why: "nobody is served without credentials", zero: true},
		{path: "authorization.mode", is: []string{"Webhook"}, why: "the API server decides who may do what"},
		{path: "authorization.webhook.cacheAuthorizedTTL", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.AllowedTTL })},
		{path: "authorization.webhook.cacheUnauthorizedTTL", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.DeniedTTL })},
		{path: "registryPullQPS", set: rate(node.NoPullBound, func(c *node.Config) *int32 { return &c.Resources.RegistryPullQPS }), zero: true},
		{path: "registryBurst", set: into(func(c *node.Config) *int { return &c.Resources.RegistryBurst })},
		{path: "imagePullCredentialsVerificationPolicy", why: whyNoVerify},
		{path: "preloadedImagesVerificationAllowlist", why: whyNoVerify},
		{path: "eventRecordQPS", set: rate(node.NoEventBound, func(c *node.Config) *int32 { return &c.Kubelet.EventRecordQPS }), zero: true},
		{path: "eventBurst", set: into(func(c *node.Config) *int { return &c.Kubelet.EventBurst })},
		{path: "enableDebuggingHandlers", is: []string{"true"}, why: whyOneServer, zero: true},
		{path: "enableContentionProfiling", set: into(func(c *node.Config) *bool { return &c.Kubelet.ContentionProfiling })},
		{path: "healthzPort", flag: "healthz-address", text: healthz},
		{path: "healthzBindAddress", flag: "healthz-address", text: healthz},
		{path: "oomScoreAdj", set: into(oomScore), zero: true},
	}
}

func nodeFields() []field {
	status := func(to func(*node.KubeletOptions) *time.Duration) func(*node.Config, any) error {
		return duration(func(c *node.Config) *time.Duration { return to(&c.Kubelet) })
	}
	return []field{
		{path: "clusterDomain", flag: "cluster-domain"},
		{path: "clusterDNS", flag: "cluster-dns"},
		{path: "streamingConnectionIdleTimeout", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.StreamIdleTimeout })},
		{path: "nodeStatusUpdateFrequency", set: status(func(k *node.KubeletOptions) *time.Duration { return &k.NodeStatusUpdateFrequency })},
		{path: "nodeStatusReportFrequency", set: status(func(k *node.KubeletOptions) *time.Duration { return &k.NodeStatusReportFrequency })},
		{path: "nodeLeaseDurationSeconds", set: func(c *node.Config, v any) error {
			seconds, err := decode[int64](v)
			c.Kubelet.NodeLeaseDuration = time.Duration(seconds) * time.Second
			return err
		}},
		{path: "imageMinimumGCAge", flag: "minimum-image-ttl-duration"},
		{path: "imageMaximumGCAge", flag: "image-maximum-gc-age"},
		{path: "imageGCHighThresholdPercent", flag: "image-gc-high-threshold"},
		{path: "imageGCLowThresholdPercent", flag: "image-gc-low-threshold"},
		{path: "volumeStatsAggPeriod", why: whyNoCadvisor},
		{path: "kubeletCgroups", why: "set it in the unit that starts the daemon"},
		{path: "systemCgroups", why: "processes of the system are left where they are"},
		{path: "cgroupRoot", flag: "cgroup-root"},
		{path: "cgroupsPerQOS", is: []string{"true"}, why: "pods always have a cgroup tree by quality of service", zero: true},
		{path: "cgroupDriver", flag: "cgroup-driver"},
		{path: "cpuManagerPolicy", set: cpuPolicy},
		{path: "singleProcessOOMKill", set: into(func(c *node.Config) *bool { return &c.Kubelet.SingleProcessOOMKill }), zero: true},
		{path: "cpuManagerPolicyOptions", set: cpuOptions},
		{path: "cpuManagerReconcilePeriod", why: whyNoPolling},
		{path: "memoryManagerPolicy", is: []string{"None"}, why: whyNoManagers},
		{path: "topologyManagerPolicy", set: topologyPolicy},
		{path: "topologyManagerScope", set: topologyScope},
		{path: "topologyManagerPolicyOptions", set: topologyOptions},
		{path: "qosReserved", why: "not part of this version"},
		{path: "runtimeRequestTimeout", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.RuntimeRequestTimeout })},
		{path: "hairpinMode", why: "pods reach themselves through their Services in any case"},
		{path: "maxPods", flag: "max-pods"},
		{path: "podCIDR", why: "the range comes from the Node object"},
		{path: "podPidsLimit", set: into(func(c *node.Config) *int64 { return &c.Kubelet.PodPidsLimit })},
		{path: "resolvConf", flag: "resolv-conf"},
		{path: "runOnce", why: "removed upstream"},
		{path: "cpuCFSQuota", set: not(func(c *node.Config) *bool { return &c.Kubelet.NoCPUQuota }), zero: true},
		{path: "cpuCFSQuotaPeriod", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.CPUQuotaPeriod })},
		{path: "nodeStatusMaxImages", set: into(func(c *node.Config) **int { return &c.Kubelet.NodeStatusMaxImages }), zero: true},
		{path: "maxOpenFiles", why: "set it in the unit that starts the daemon"},
		{path: "contentType", why: "Protobuf is used where the server knows it"},
		{path: "kubeAPIQPS", set: into(func(c *node.Config) *int { return &c.Kubelet.KubeAPIQPS })},
		{path: "kubeAPIBurst", set: into(func(c *node.Config) *int { return &c.Kubelet.KubeAPIBurst })},
		{path: "serializeImagePulls", flag: "max-parallel-image-pulls", text: serially, zero: true},
		{path: "maxParallelImagePulls", flag: "max-parallel-image-pulls"},
	}
}

func resourceFields() []field {
	return []field{
		{path: "evictionHard", flag: "eviction-hard", text: statements("<")},
		{path: "evictionSoft", flag: "eviction-soft", text: statements("<")},
		{path: "evictionSoftGracePeriod", flag: "eviction-soft-grace-period", text: statements("=")},
		{path: "evictionPressureTransitionPeriod", flag: "eviction-pressure-transition-period"},
		{path: "evictionMaxPodGracePeriod", flag: "eviction-max-pod-grace-period", text: seconds},
		{path: "evictionMinimumReclaim", flag: "eviction-minimum-reclaim", text: statements("=")},
		{path: "mergeDefaultEvictionSettings", set: into(func(c *node.Config) *bool { return &c.Resources.Eviction.MergeDefaults }), zero: true},
		{path: "podsPerCore", set: into(func(c *node.Config) *int { return &c.Kubelet.PodsPerCore })},
		{path: "enableControllerAttachDetach", is: []string{"true"}, why: "volumes are always attached by the controller", zero: true},
		{path: "protectKernelDefaults", why: "sysctls that pods need are set where they are needed"},
		{path: "makeIPTablesUtilChains", why: whyNoIPTables, zero: true, is: []string{"true", "false"}},
		{path: "iptablesMasqueradeBit", why: "the service proxy's own setting counts"},
		{path: "iptablesDropBit", why: whyNoIPTables},
		{path: "featureGates", why: whyNoGates, each: judgeGates},
		{path: "failSwapOn", set: into(func(c *node.Config) *bool { return &c.Kubelet.FailSwapOn }), zero: true},
		{path: "memorySwap.swapBehavior", set: swapBehavior},
		{path: "containerLogMaxSize", flag: "container-log-max-size"},
		{path: "containerLogMaxFiles", flag: "container-log-max-files"},
		{path: "containerLogMaxWorkers", set: into(func(c *node.Config) *int { return &c.Resources.ContainerLogMaxWorkers })},
		{path: "containerLogMonitorInterval", set: duration(func(c *node.Config) *time.Duration { return &c.Resources.ContainerLogMonitorInterval })},
		{path: "configMapAndSecretChangeDetectionStrategy", is: []string{"Watch"}, why: "objects that pods refer to are watched"},
		{path: "systemReserved", set: into(func(c *node.Config) *corev1.ResourceList { return &c.Kubelet.SystemReserved })},
		{path: "kubeReserved", set: into(func(c *node.Config) *corev1.ResourceList { return &c.Kubelet.KubeReserved })},
		{path: "reservedSystemCPUs", set: into(func(c *node.Config) *string { return &c.Kubelet.CPUPolicy.Reserved })},
		{path: "showHiddenMetricsForVersion", why: "no metrics are hidden"},
		{path: "systemReservedCgroup", set: into(func(c *node.Config) *string { return &c.Kubelet.Enforce.SystemCgroup })},
		{path: "kubeReservedCgroup", set: into(func(c *node.Config) *string { return &c.Kubelet.Enforce.KubeCgroup })},
		{path: "enforceNodeAllocatable", set: into(func(c *node.Config) *[]string { return &c.Kubelet.Enforce.Node }), zero: true},
		{path: "allowedUnsafeSysctls", set: into(func(c *node.Config) *[]string { return &c.Kubelet.AllowedUnsafeSysctls })},
		{path: "defaultPodSysctls", why: "not part of this version"},
	}
}

func miscFields() []field {
	return []field{
		{path: "volumePluginDir", why: "FlexVolume programs are never run"},
		{path: "providerID", flag: "provider-id"},
		{path: "kernelMemcgNotification", why: "pressure that the kernel tells of is always listened to"},
		{path: "logging", flag: "log-level", text: logLevel, also: &field{path: "logging", flag: "logging-format", text: logFormat}},
		{path: "enableSystemLogHandler", set: not(func(c *node.Config) *bool { return &c.Kubelet.NoSystemLogs }), zero: true},
		{path: "enableSystemLogQuery", set: into(func(c *node.Config) *bool { return &c.Kubelet.SystemLogQuery }), zero: true},
		{path: "shutdownGracePeriod", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.Shutdown.Total })},
		{path: "shutdownGracePeriodCriticalPods", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.Shutdown.Critical })},
		{path: "shutdownGracePeriodByPodPriority", set: periods},
		{path: "crashLoopBackOff.maxContainerRestartPeriod", set: duration(func(c *node.Config) *time.Duration { return &c.Kubelet.MaxContainerRestartPeriod })},
		{path: "reservedMemory", why: whyNoManagers},
		{path: "enableProfilingHandler", set: not(func(c *node.Config) *bool { return &c.Kubelet.NoProfiling }), zero: true},
		{path: "enableDebugFlagsHandler", set: not(func(c *node.Config) *bool { return &c.Kubelet.NoVerbosity }), zero: true},
		{path: "seccompDefault", set: into(func(c *node.Config) *bool { return &c.Kubelet.SeccompDefault })},
		{path: "memoryThrottlingFactor", why: "memory is limited, not throttled"},
		{path: "memoryReservationPolicy", is: []string{"None"}, why: "memory is limited, not reserved"},
		{path: "registerWithTaints", flag: "register-with-taints", text: taints},
		{path: "registerNode", set: not(func(c *node.Config) *bool { return &c.Kubelet.NoRegister }), zero: true},
		{path: "tracing", why: "no traces are sent; nodelet timeline shows the steps of a pod"},
		{path: "localStorageCapacityIsolation", why: "local storage is always counted", zero: true, is: []string{"true"}},
		{path: "containerRuntimeEndpoint", flag: "container-runtime-endpoint", text: endpoint},
		{path: "imageServiceEndpoint", why: "images come from the container runtime"},
		{path: "failCgroupV1", why: "cgroup v1 works", zero: true, is: []string{"false"}},
		{path: "userNamespaces.idsPerPod", set: into(func(c *node.Config) *int64 { return &c.Kubelet.UserNamespaceIDsPerPod })},
	}
}

// oomScore is where both kinds of files put the daemon's oom_score_adj.
func oomScore(c *node.Config) **int { return &c.Kubelet.OOMScoreAdj }

// not makes a setter of a switch that is stored as its opposite, so that off is the zero value.
func not(to func(*node.Config) *bool) func(*node.Config, any) error {
	return func(c *node.Config, v any) error {
		enabled, err := decode[bool](v)
		*to(c) = err == nil && !enabled
		return err
	}
}

// duration makes a setter of a time that the file writes as 10s.
func duration(to func(*node.Config) *time.Duration) func(*node.Config, any) error {
	return func(c *node.Config, v any) error {
		d, err := decode[metav1.Duration](v)
		*to(c) = d.Duration
		return err
	}
}

// swapBehavior takes what pods may do with swap.
func swapBehavior(c *node.Config, v any) error {
	switch name := plain(v); name {
	case "NoSwap", "LimitedSwap":
		c.Kubelet.LimitedSwap = name == "LimitedSwap"
		return nil
	default:
		return fmt.Errorf("%q is no behaviour: NoSwap or LimitedSwap", name)
	}
}

// periods takes the list of priorities with their seconds.
func periods(c *node.Config, v any) error {
	list, err := decode[[]struct {
		Priority                   int32
		ShutdownGracePeriodSeconds int64
	}](v)
	c.Kubelet.Shutdown.ByPriority = nil
	for _, p := range list {
		c.Kubelet.Shutdown.ByPriority = append(c.Kubelet.Shutdown.ByPriority,
			shutdownplan.Period{Priority: p.Priority, Grace: time.Duration(p.ShutdownGracePeriodSeconds) * time.Second})
	}
	return err
}

// statements writes a map as the flags of evictions have it: signal, separator, value.
func statements(separator string) func(*Document, any) (string, error) {
	return func(_ *Document, v any) (string, error) {
		all, err := decode[map[string]string](v)
		var texts []string
		for _, signal := range slices.Sorted(maps.Keys(all)) {
			texts = append(texts, signal+separator+all[signal])
		}
		return strings.Join(texts, ","), err
	}
}

// rate makes a setter of a rate that the file has 0 in for no bound, where the zero value of what is configured
// is the default.
func rate(none int32, to func(*node.Config) *int32) func(*node.Config, any) error {
	return func(c *node.Config, v any) error {
		qps, err := decode[int32](v)
		switch {
		case err != nil:
			return err
		case qps < 0:
			return fmt.Errorf("is %d: it must not be negative", qps)
		case qps == 0:
			qps = none
		}
		*to(c) = qps
		return nil
	}
}

// allPulls stands for no bound: more pods than that are on no node.
const allPulls = "1000"

// serially is one pull at a time, or as many as there are where maxParallelImagePulls says nothing.
func serially(d *Document, v any) (string, error) {
	most := d.get("maxParallelImagePulls")
	switch serial := plain(v) == "true"; {
	case serial && most != nil && plain(most) != "1":
		return "", fmt.Errorf("is true, and maxParallelImagePulls is %s: set one of them", plain(most))
	case serial:
		return "1", nil
	case most == nil:
		return allPulls, nil
	}
	return "", nil
}

// seconds makes a time of a number.
func seconds(_ *Document, v any) (string, error) { return plain(v) + "s", nil }

// healthz joins the two fields that make one address.
func healthz(d *Document, _ any) (string, error) {
	host, port := "127.0.0.1", "10248"
	if v := d.get("healthzBindAddress"); v != nil && !empty(v) {
		host = plain(v)
	}
	if v := d.get("healthzPort"); v != nil && !empty(v) {
		port = plain(v)
	}
	return net.JoinHostPort(host, port), nil
}

// taints writes taints as --register-with-taints has them.
func taints(_ *Document, v any) (string, error) {
	list, err := decode[[]corev1.Taint](v)
	var texts []string
	for _, t := range list {
		texts = append(texts, t.Key+"="+t.Value+":"+string(t.Effect))
	}
	return strings.Join(texts, ","), err
}

// endpoint takes a bare path for a socket, as upstream does.
func endpoint(_ *Document, v any) (string, error) {
	s := plain(v)
	if strings.HasPrefix(s, "/") {
		return "unix://" + s, nil
	}
	return s, nil
}

// logLevel takes klog's verbosity for a level.
func logLevel(_ *Document, v any) (string, error) {
	l, err := decode[struct{ Verbosity json.Number }](v)
	if err != nil {
		return "", err
	}
	if n, err := l.Verbosity.Int64(); err == nil && node.LevelOf(int(n)) == slog.LevelDebug {
		return "debug", nil
	}
	return "", nil
}

// logFormat takes how logs are written.
func logFormat(_ *Document, v any) (string, error) {
	l, err := decode[struct{ Format string }](v)
	return l.Format, err
}

// hostPort adds the default port to an address without one.
func hostPort(port int) func(*Document, any) (string, error) {
	return func(_ *Document, v any) (string, error) {
		s := plain(v)
		if _, _, err := net.SplitHostPort(s); err == nil {
			return s, nil
		}
		return net.JoinHostPort(strings.Trim(s, "[]"), fmt.Sprint(port)), nil
	}
}
