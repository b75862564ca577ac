package admission

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// safeSysctls belong to a pod alone and cannot harm its neighbours: the list of
// the Kubernetes documentation ("Using sysctls in a Kubernetes Cluster"). All of
// them are namespaced in the kernels that nodelet runs on (4.15 and later).
func safeSysctls() []string {
	return []string{
		"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
		"net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports",
		"net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
		"net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
	}
}

// forbiddenSysctl says which sysctl of the pod this node does not set.
func forbiddenSysctl(pod *corev1.Pod, unsafe []string) *refusal {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		name := NormalSysctl(s.Name)
		message := ""
		switch space := namespaceOf(name); {
		case !allowed(name, append(safeSysctls(), unsafe...)):
			message = fmt.Sprintf("forbidden sysctl: %q not allowlisted", name)
		case space == "Net" && pod.Spec.HostNetwork, space == "IPC" && pod.Spec.HostIPC:
			message = fmt.Sprintf("forbidden sysctl: %q not allowed with host %s enabled", name, space)
		}
		if message != "" {
			return &refusal{"SysctlForbidden", message}
		}
	}
	return nil
}

func allowed(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		p = NormalSysctl(p)
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return p == name
	})
}

// CheckSysctlPattern says what is wrong with a pattern of allowed sysctls: only
// those that the kernel keeps for each pod apart may be allowed.
func CheckSysctlPattern(pattern string) error {
	name, _ := strings.CutSuffix(NormalSysctl(pattern), "*")
	if namespaceOf(strings.TrimSuffix(name, ".")) == "" && namespaceOf(name) == "" {
		return fmt.Errorf("allowed sysctl %q is not known to be namespaced: only kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* and net.* are", pattern)
	}
	return nil
}

// namespaceOf is the kernel namespace that a sysctl belongs to: IPC, Net or none.
func namespaceOf(name string) string {
	switch {
	case name == "kernel.sem", strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), strings.HasPrefix(name, "fs.mqueue."):
		return "IPC"
	case name == "net", strings.HasPrefix(name, "net."):
		return "Net"
	}
	return ""
}

// NormalSysctl writes a sysctl's name with dots as separators. Where a slash
// separates first, dots belong to names (of interfaces) and become slashes.
func NormalSysctl(name string) string {
	first := strings.IndexAny(name, "./")
	if first < 0 || name[first] == '.' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}
