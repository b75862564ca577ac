package podplan

import (
	"fmt"
	"math"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// maskedPaths and readonlyPaths hide from containers what of /proc and /sys
// would tell of, or change, the host.
func maskedPaths() []string {
	return []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// effective is the security context of a container with what it inherits from its pod.
func effective(pod *corev1.Pod, c *corev1.Container) *corev1.SecurityContext {
	sc := &corev1.SecurityContext{}
	if c.SecurityContext != nil {
		sc = c.SecurityContext.DeepCopy()
	}
	sc.AppArmorProfile = podref.AppArmor(pod, c)
	p := pod.Spec.SecurityContext
	if p == nil {
		return sc
	}
	if sc.SELinuxOptions == nil {
		sc.SELinuxOptions = p.SELinuxOptions
	}
	if sc.RunAsUser == nil {
		sc.RunAsUser = p.RunAsUser
	}
	if sc.RunAsGroup == nil {
		sc.RunAsGroup = p.RunAsGroup
	}
	if sc.RunAsNonRoot == nil {
		sc.RunAsNonRoot = p.RunAsNonRoot
	}
	if sc.SeccompProfile == nil {
		sc.SeccompProfile = p.SeccompProfile
	}
	return sc
}

func (m *maker) containerSecurity(c ctr) (*runtimev1.LinuxContainerSecurityContext, error) {
	sc := effective(m.obj, c.Container)
	out := &runtimev1.LinuxContainerSecurityContext{
		NamespaceOptions: namespaces(m.obj),
		SelinuxOptions:   selinux(sc.SELinuxOptions),
		MaskedPaths:      append(maskedPaths(), m.Node.MaskedPaths...),
		ReadonlyPaths:    readonlyPaths(),
	}
	if sc.ProcMount != nil && *sc.ProcMount == corev1.UnmaskedProcMount {
		out.MaskedPaths, out.ReadonlyPaths = []string{}, []string{}
	}
	if sc.Capabilities != nil {
		out.Capabilities = &runtimev1.Capability{}
		for _, n := range sc.Capabilities.Add {
			out.Capabilities.AddCapabilities = append(out.Capabilities.AddCapabilities, string(n))
		}
		for _, n := range sc.Capabilities.Drop {
			out.Capabilities.DropCapabilities = append(out.Capabilities.DropCapabilities, string(n))
		}
	}
	if sc.RunAsUser != nil {
		out.RunAsUser = &runtimev1.Int64Value{Value: *sc.RunAsUser}
	}
	if sc.RunAsGroup != nil {
		out.RunAsGroup = &runtimev1.Int64Value{Value: *sc.RunAsGroup}
	}
	out.Privileged = sc.Privileged != nil && *sc.Privileged
	out.ReadonlyRootfs = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
	out.NoNewPrivs = sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation
	var err error
	if out.NamespaceOptions.UsernsOptions, err = m.users(); err != nil {
		return nil, err
	}
	if out.SupplementalGroups, out.SupplementalGroupsPolicy, err = groups(m.obj.Spec.SecurityContext); err != nil {
		return nil, err
	}
	if out.Seccomp, err = m.seccomp(sc.SeccompProfile); err != nil {
		return nil, err
	}
	out.Apparmor, err = appArmor(sc.AppArmorProfile)
	return out, err
}

func groups(sc *corev1.PodSecurityContext) (ids []int64, policy runtimev1.SupplementalGroupsPolicy, err error) {
	if sc == nil {
		return nil, 0, nil
	}
	if sc.FSGroup != nil {
		ids = append(ids, *sc.FSGroup)
	}
	ids = append(ids, sc.SupplementalGroups...)
	if p := sc.SupplementalGroupsPolicy; p != nil {
		v, ok := runtimev1.SupplementalGroupsPolicy_value[string(*p)]
		if !ok {
			return nil, 0, &configError{fmt.Sprintf("unsupported supplementalGroupsPolicy: %s", *p)}
		}
		policy = runtimev1.SupplementalGroupsPolicy(v)
	}
	return ids, policy, nil
}

func selinux(o *corev1.SELinuxOptions) *runtimev1.SELinuxOption {
	if o == nil {
		return nil
	}
	return &runtimev1.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

func (m *maker) seccomp(p *corev1.SeccompProfile) (*runtimev1.SecurityProfile, error) {
	kind := corev1.SeccompProfileTypeUnconfined
	if m.Settings.SeccompDefault {
		kind = corev1.SeccompProfileTypeRuntimeDefault
	}
	if p != nil {
		kind = p.Type
	}
	switch kind {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_RuntimeDefault}, nil
	case corev1.SeccompProfileTypeLocalhost:
		if p.LocalhostProfile == nil || *p.LocalhostProfile == "" {
			return nil, &configError{"seccompProfile of type Localhost names no localhostProfile"}
		}
		if !filepath.IsLocal(*p.LocalhostProfile) {
			return nil, &configError{fmt.Sprintf("seccompProfile %q lies outside the directory of profiles", *p.LocalhostProfile)}
		}
		path := filepath.Join(m.Settings.SeccompRoot, *p.LocalhostProfile)
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_Localhost, LocalhostRef: path}, nil
	}
	return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_Unconfined}, nil
}

func appArmor(p *corev1.AppArmorProfile) (*runtimev1.SecurityProfile, error) {
	if p == nil {
		return nil, nil
	}
	switch p.Type {
	case corev1.AppArmorProfileTypeRuntimeDefault:
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_RuntimeDefault}, nil
	case corev1.AppArmorProfileTypeUnconfined:
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_Unconfined}, nil
	case corev1.AppArmorProfileTypeLocalhost:
		if p.LocalhostProfile == nil || *p.LocalhostProfile == "" {
			return nil, &configError{"appArmorProfile of type Localhost names no localhostProfile"}
		}
		return &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_Localhost, LocalhostRef: *p.LocalhostProfile}, nil
	}
	return nil, &configError{fmt.Sprintf("unknown appArmorProfile type %q", p.Type)}
}

func anyPrivileged(pod *corev1.Pod) bool {
	for _, c := range containers(pod) {
		if sc := c.SecurityContext; sc != nil && sc.Privileged != nil && *sc.Privileged {
			return true
		}
	}
	return false
}

// checkNonRoot says what speaks against running a container that must not run
// as root. Where neither pod nor container names a user, the image's counts.
func (m *maker) checkNonRoot(c ctr) error {
	sc := effective(m.obj, c.Container)
	if sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot {
		return nil
	}
	refuse := func(format string, args ...any) error {
		return &configError{fmt.Sprintf(format, args...) + fmt.Sprintf(" (pod: %s, container: %s)", podKey(m.obj), c.Name)}
	}
	if sc.RunAsUser != nil {
		if *sc.RunAsUser == 0 {
			return refuse("container's runAsUser breaks non-root policy")
		}
		return nil
	}
	row, ok := m.World.Images.Get(model.ImageRef(c.Image))
	switch {
	case !ok:
		return &notYet{"image " + c.Image}
	case row.UID == nil && row.Username != "":
		return refuse("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root", row.Username)
	case row.UID == nil || *row.UID == 0:
		return refuse("container has runAsNonRoot and image will run as root")
	case *row.UID < 0 || *row.UID > math.MaxInt32:
		return refuse("container has runAsNonRoot and image has an invalid user id (%d)", *row.UID)
	}
	return nil
}
