package node

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/admission"
	"nodelet/agent/exclusive/alignplan"
	"nodelet/agent/exclusive/cpuplan"
	"nodelet/agent/shutdown/shutdownplan"
	"nodelet/internal/kube"
)

// KubeletOptions are settings of the agent by the names and with the meaning
// of KubeletConfiguration. The zero value is upstream's default.
type KubeletOptions struct {
	ProviderID string
	// CloudProvider is external where a cloud controller manager initialises nodes, and decides about their addresses.
	CloudProvider string
	// NodeIPGiven: the addresses of the node were not guessed.
	NodeIPGiven    bool
	SeccompDefault bool
	// MaxContainerRestartPeriod bounds CrashLoopBackOff.
	MaxContainerRestartPeriod time.Duration
	// NodeStatusUpdateFrequency, NodeStatusReportFrequency and NodeLeaseDuration rule what the API server hears of the node.
	NodeStatusUpdateFrequency, NodeStatusReportFrequency, NodeLeaseDuration time.Duration
	// UserNamespaceIDsPerPod is how many users a pod with a user namespace of its own has; 0 means 65536.
	UserNamespaceIDsPerPod int64
	// KubeAPIQPS and KubeAPIBurst bound the requests to the API server but heartbeats and events; 0 means no bound, and
	// 100 at once where there is one.
	KubeAPIQPS, KubeAPIBurst int
	// OOMScoreAdj is what the daemon makes of its own oom_score_adj; nil: it stays as it was at the start.
	OOMScoreAdj *int
	// SyncFrequency is how often all that the runtime has is looked at although it told of nothing; 0 means 30 s.
	SyncFrequency time.Duration
	// NoRegister: somebody else makes the Node object.
	NoRegister bool
	// NodeStatusMaxImages is how many images the node's status names; nil means 50, -1 all.
	NodeStatusMaxImages *int
	// NoCPUQuota: CPU limits are not enforced. CPUQuotaPeriod is the period that they are enforced over; 0 means 100 ms.
	NoCPUQuota     bool
	CPUQuotaPeriod time.Duration
	// PodPidsLimit bounds the processes of a pod; below 1 there is no bound.
	PodPidsLimit int64
	// PodsPerCore bounds the pods of the node beside --max-pods; 0 for no bound.
	PodsPerCore int
	// KubeReserved and SystemReserved are kept from pods.
	KubeReserved, SystemReserved corev1.ResourceList
	// Enforce is whose use of the machine is limited by what is reserved.
	Enforce Enforcement
	// StaticPodPath is a directory of static pod manifests, or one manifest; StaticPodURL answers with
	// manifests, asked with StaticPodURLHeader. Empty for none.
	StaticPodPath, StaticPodURL string
	StaticPodURLHeader          http.Header
	// FileCheckFrequency and HTTPCheckFrequency are how often those are looked at although nothing tells of a change; 0 means 20 s.
	FileCheckFrequency, HTTPCheckFrequency time.Duration
	// AllowedUnsafeSysctls are patterns of sysctls that pods may set beside the safe ones.
	AllowedUnsafeSysctls []string
	// ClientCAFile signs the client certificates that the kubelet API accepts; empty for that of the data directory.
	ClientCAFile string
	// TLSCertFile and TLSPrivateKeyFile are the kubelet API's serving certificate; empty for that of the data directory.
	TLSCertFile, TLSPrivateKeyFile string
	// Address is where the kubelet API listens; the zero value and unspecified ones: on all addresses.
	Address netip.Addr
	// TokenTTL, AllowedTTL and DeniedTTL are how long the kubelet API believes what the API server said of a token,
	// and of what somebody may do; 0 means 2 min, 5 min and 30 s.
	TokenTTL, AllowedTTL, DeniedTTL time.Duration
	// RuntimeRequestTimeout bounds calls to the container runtime but for pulls, and for what brings a time of its
	// own; 0 means 2 min.
	RuntimeRequestTimeout time.Duration
	// EventRecordQPS and EventBurst bound the events that are written; 0 means 50 a second, and 100 at once.
	// NoEventBound is no bound.
	EventRecordQPS int32
	EventBurst     int
	// TLSMinVersion and TLSCipherSuites as crypto/tls has them; zero for TLS 1.2 and Go's own choice.
	TLSMinVersion   uint16
	TLSCipherSuites []uint16
	// CertDir keeps the certificates that this node asks for; empty for pki in the data directory.
	CertDir string
	// KeepCertificate: the client certificate is not renewed.
	KeepCertificate bool
	// ServerTLSBootstrap: the serving certificate is asked from the API server, instead of nobody signing it.
	ServerTLSBootstrap bool
	// StreamIdleTimeout ends streams (exec, attach, port-forward) on which nothing moves; 0 means 4 h.
	StreamIdleTimeout time.Duration
	// SingleProcessOOMKill: the kernel kills one process that takes too much memory, not all of its container; always so on cgroup v1.
	SingleProcessOOMKill bool
	// CgroupDriver is cgroupfs or systemd; empty: what the container runtime says, and cgroupfs for the embedded one.
	CgroupDriver string
	// StaticCgroups: the mount option favordynmods of cgroup2 is left as it is.
	StaticCgroups bool
	// LimitedSwap is swapBehavior LimitedSwap; FailSwapOn keeps the daemon from starting on a machine with swap.
	LimitedSwap, FailSwapOn bool
	// NoProfiling: the kubelet API serves no /debug/pprof. ContentionProfiling: the profiles "block" and "mutex" are kept.
	NoProfiling, ContentionProfiling bool
	// NoVerbosity: the kubelet API does not change how much is logged (/debug/flags/v).
	NoVerbosity bool
	// NoSystemLogs: the kubelet API does not serve /var/log at /logs/. SystemLogQuery: that answers queries for the logs of services.
	NoSystemLogs, SystemLogQuery bool
	// CPUPolicy says whether containers get CPUs to themselves.
	CPUPolicy CPUPolicy
	// Shutdown is how long pods have to end before the machine goes down; the zero value: they are not waited for.
	Shutdown shutdownplan.Settings
}

// check names everything that is wrong.
func (k *KubeletOptions) check() error {
	var errs []error
	for _, pattern := range k.AllowedUnsafeSysctls {
		if err := admission.CheckSysctlPattern(pattern); err != nil {
			errs = append(errs, fmt.Errorf("--allowed-unsafe-sysctls: %w", err))
		}
	}
	if u, err := url.Parse(k.StaticPodURL); k.StaticPodURL != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		errs = append(errs, fmt.Errorf("--manifest-url %q: must be an http or https URL", k.StaticPodURL))
	}
	if d := k.CgroupDriver; d != "" && d != driverFiles && d != driverSystemd {
		errs = append(errs, fmt.Errorf("--cgroup-driver %q: must be %s or %s", d, driverFiles, driverSystemd))
	}
	if k.CloudProvider != "" && k.CloudProvider != externalCloud {
		errs = append(errs, fmt.Errorf("--cloud-provider %q: only %s is known; providers within the kubelet are gone since Kubernetes 1.31", k.CloudProvider, externalCloud))
	}
	if err := k.CPUPolicy.check(); err != nil {
		errs = append(errs, fmt.Errorf("cpuManagerPolicyOptions: %w", err))
	}
	if err := k.Enforce.check(k.CPUPolicy.Reserved); err != nil {
		errs = append(errs, err)
	}
	if k.SystemLogQuery && k.NoSystemLogs {
		errs = append(errs, errors.New("enableSystemLogQuery: needs enableSystemLogHandler: true"))
	}
	if k.TokenTTL < 0 || k.AllowedTTL < 0 || k.DeniedTTL < 0 {
		errs = append(errs, errors.New("authentication.webhook.cacheTTL, authorization.webhook.cacheAuthorizedTTL and cacheUnauthorizedTTL: must not be negative"))
	}
	if k.RuntimeRequestTimeout < 0 {
		errs = append(errs, fmt.Errorf("runtimeRequestTimeout is %s: it must not be negative", k.RuntimeRequestTimeout))
	}
	if k.EventRecordQPS < NoEventBound || k.EventBurst < 0 {
		errs = append(errs, fmt.Errorf("eventRecordQPS is %d and eventBurst %d: neither may be negative", k.EventRecordQPS, k.EventBurst))
	}
	if n := k.UserNamespaceIDsPerPod; n < 0 || n >= 1<<31 {
		errs = append(errs, fmt.Errorf("userNamespaces.idsPerPod %d: must be a multiple of %d below 2^31", n, admission.DefaultIDsPerPod))
	}
	return errors.Join(append(errs, k.checkRates())...)
}

// NoEventBound is the EventRecordQPS of a node that writes events as fast as it can.
const NoEventBound = -1

// eventRate is what KubeletOptions say of events: upstream's values where they say nothing.
func (k *KubeletOptions) eventRate() kube.Rate {
	if k.EventRecordQPS == NoEventBound {
		return kube.Rate{}
	}
	return kube.Rate{PerSecond: int(cmp.Or(k.EventRecordQPS, 50)), Burst: cmp.Or(k.EventBurst, 100)}
}

// apiAddress is where the kubelet API listens, with that port.
func (k *KubeletOptions) apiAddress(port uint16) string {
	host := ""
	if k.Address.IsValid() && !k.Address.IsUnspecified() {
		host = k.Address.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// externalCloud is the only cloud provider there is.
const externalCloud = "external"

// CPUPolicy is the CPU manager's policy.
type CPUPolicy struct {
	// Static is cpuManagerPolicy static.
	Static bool
	// Options of that policy.
	Options cpuplan.Options
	// Align is topologyManagerPolicy, AlignPods topologyManagerScope pod.
	Align     alignplan.Policy
	AlignPods bool
	// AlignClosest is the option prefer-closest-numa-nodes.
	AlignClosest bool
	// Reserved is reservedSystemCPUs: a list of CPUs that is kept for the system, in the place of the amounts.
	Reserved string
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
