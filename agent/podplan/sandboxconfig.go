package podplan

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/admission"
)

// sandboxConfig is the configuration of the pod's sandbox. It is also part of
// every CreateContainer request, so it must not depend on what changes in between.
func (m *maker) sandboxConfig(attempt uint32) (*runtimev1.PodSandboxConfig, error) {
	pod := m.obj
	config := &runtimev1.PodSandboxConfig{
		Metadata:     &runtimev1.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		Labels:       sandboxLabels(pod),
		Annotations:  map[string]string{},
		LogDirectory: m.Settings.PodLogs(pod),
		DnsConfig:    m.dns(),
	}
	maps.Copy(config.Annotations, pod.Annotations)
	config.Annotations[AnnotationOurs] = "true"
	if !pod.Spec.HostNetwork {
		hostname, err := m.kernelHostname()
		if err != nil {
			return nil, err
		}
		config.Hostname = hostname
		config.PortMappings = portMappings(pod)
	}
	linux, err := m.sandboxLinux()
	if err != nil {
		return nil, err
	}
	config.Linux = linux
	return config, nil
}

func (m *maker) sandboxLinux() (*runtimev1.LinuxPodSandboxConfig, error) {
	pod := m.obj
	security := &runtimev1.LinuxSandboxSecurityContext{
		Privileged:       anyPrivileged(pod),
		NamespaceOptions: namespaces(pod),
		Seccomp:          m.sandboxSeccomp(),
	}
	var err error
	if security.NamespaceOptions.UsernsOptions, err = m.users(); err != nil {
		return nil, err
	}
	linux := &runtimev1.LinuxPodSandboxConfig{
		CgroupParent:    m.Settings.CgroupParent(pod),
		SecurityContext: security,
		Sysctls:         map[string]string{},
		Overhead:        m.Settings.overhead(pod),
		Resources:       m.Settings.podResources(pod),
	}
	if m.grant.HasCPUs() {
		linux.Resources.CpuQuota = unlimited
	}
	sc := pod.Spec.SecurityContext
	if sc == nil {
		return linux, nil
	}
	for _, s := range sc.Sysctls {
		linux.Sysctls[admission.NormalSysctl(s.Name)] = s.Value
	}
	if sc.RunAsUser != nil {
		security.RunAsUser = &runtimev1.Int64Value{Value: *sc.RunAsUser}
	}
	if sc.RunAsGroup != nil {
		security.RunAsGroup = &runtimev1.Int64Value{Value: *sc.RunAsGroup}
	}
	security.SelinuxOptions = selinux(sc.SELinuxOptions)
	security.SupplementalGroups, security.SupplementalGroupsPolicy, err = groups(sc)
	return linux, err
}

func portMappings(pod *corev1.Pod) []*runtimev1.PortMapping {
	var all []*runtimev1.PortMapping
	add := func(ports []corev1.ContainerPort) {
		for _, p := range ports {
			if p.HostPort == 0 {
				continue
			}
			all = append(all, &runtimev1.PortMapping{
				Protocol: protocol(p.Protocol), ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIp: p.HostIP,
			})
		}
	}
	for _, c := range containers(pod) {
		if c.kind == ordinary || c.kind == sidecar {
			add(c.Ports)
		}
	}
	return all
}

func protocol(p corev1.Protocol) runtimev1.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return runtimev1.Protocol_UDP
	case corev1.ProtocolSCTP:
		return runtimev1.Protocol_SCTP
	}
	return runtimev1.Protocol_TCP
}

// namespaces says which namespaces of the node or of each other the containers share.
func namespaces(pod *corev1.Pod) *runtimev1.NamespaceOption {
	n := &runtimev1.NamespaceOption{
		Network: runtimev1.NamespaceMode_POD,
		Ipc:     runtimev1.NamespaceMode_POD,
		Pid:     runtimev1.NamespaceMode_CONTAINER,
	}
	if pod.Spec.HostNetwork {
		n.Network = runtimev1.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		n.Ipc = runtimev1.NamespaceMode_NODE
	}
	switch share := pod.Spec.ShareProcessNamespace; {
	case pod.Spec.HostPID:
		n.Pid = runtimev1.NamespaceMode_NODE
	case share != nil && *share:
		n.Pid = runtimev1.NamespaceMode_POD
	}
	return n
}

// sandboxSeccomp: the sandbox itself does nothing that a profile of the pod could be about. What another
// handler than the default one makes of a sandbox is not known here.
func (m *maker) sandboxSeccomp() *runtimev1.SecurityProfile {
	if m.Settings.SandboxSeccomp == "" || m.obj.Spec.RuntimeClassName != nil {
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_RuntimeDefault}
	}
	return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_Localhost, LocalhostRef: m.Settings.SandboxSeccomp}
}
