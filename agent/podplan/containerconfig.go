package podplan

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// createContainer makes the request for the next container of that name.
func (m *maker) createContainer(sb *model.Sandbox, c ctr, attempt uint32, images images) (CreateContainer, error) {
	sandbox, err := m.sandboxConfig(sb.Attempt)
	if err != nil {
		return CreateContainer{}, err
	}
	if err := m.checkNonRoot(c); err != nil {
		return CreateContainer{}, err
	}
	env, err := m.environment(c)
	if err != nil {
		return CreateContainer{}, err
	}
	config, err := m.containerConfig(sb, c, attempt, env)
	if err != nil {
		return CreateContainer{}, err
	}
	config.Image = &runtimev1.ImageSpec{Image: images.own, UserSpecifiedImage: c.Image}
	a := CreateContainer{SandboxID: sb.ID, Config: config, SandboxConfig: sandbox, PostStart: postStart(c), EnvFiles: env.files}
	a.Files.LogDir = filepath.Dir(filepath.Join(sandbox.LogDirectory, config.LogPath))
	if config.Mounts, a.SubPaths, err = m.mounts(c, config.Envs, images.volumes); err != nil {
		return CreateContainer{}, err
	}
	if config.Devices, err = m.devices(c); err != nil {
		return CreateContainer{}, err
	}
	m.addGrant(c, config)
	m.addClaims(c, config)
	m.addHosts(c, sb, &a)
	m.addTerminationLog(c, attempt, &a)
	mapUsers(config)
	return a, m.joinTarget(c, config)
}

func (m *maker) containerConfig(sb *model.Sandbox, c ctr, attempt uint32, env *environ) (*runtimev1.ContainerConfig, error) {
	security, err := m.containerSecurity(c)
	if err != nil {
		return nil, err
	}
	config := &runtimev1.ContainerConfig{
		Metadata:    &runtimev1.ContainerMetadata{Name: c.Name, Attempt: attempt},
		Command:     expandAll(c.Command, env),
		Args:        expandAll(c.Args, env),
		WorkingDir:  c.WorkingDir,
		Labels:      containerLabels(m.obj, c.Name),
		Annotations: containerAnnotations(m.obj, c, attempt, m.nextLevel(sb, c)),
		LogPath:     containerLog(c.Name, attempt),
		Stdin:       c.Stdin,
		StdinOnce:   c.StdinOnce,
		Tty:         c.TTY,
		Linux: &runtimev1.LinuxContainerConfig{
			Resources:       m.containerResources(c),
			SecurityContext: security,
		},
	}
	for _, e := range env.list() {
		config.Envs = append(config.Envs, &runtimev1.KeyValue{Key: e.name, Value: []byte(e.value)})
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		config.StopSignal = signal(*c.Lifecycle.StopSignal)
	}
	return config, nil
}

// signal is a signal in CRI's words, where SIGRTMIN+1 is SIGNAL_SIGRTMINPLUS1.
// An unknown one is 0: the image's own.
func signal(s corev1.Signal) runtimev1.Signal {
	name := strings.NewReplacer("+", "PLUS", "-", "MINUS").Replace(string(s))
	return runtimev1.Signal(runtimev1.Signal_value["SIGNAL_"+name])
}

// joinTarget puts an ephemeral container into the process namespace of the container it looks at.
func (m *maker) joinTarget(c ctr, config *runtimev1.ContainerConfig) error {
	ns := config.Linux.SecurityContext.NamespaceOptions
	if c.target == "" || ns.Pid != runtimev1.NamespaceMode_CONTAINER {
		return nil
	}
	target := m.rt.Latest(c.target)
	if target == nil || target.State != model.ContainerRunning {
		return &configError{fmt.Sprintf("unable to find target container %s: it does not run", c.target)}
	}
	ns.Pid, ns.TargetId = runtimev1.NamespaceMode_TARGET, target.ID
	return nil
}

const etcHosts = "/etc/hosts"

// addHosts mounts the managed /etc/hosts, unless the container brings its own.
func (m *maker) addHosts(c ctr, sb *model.Sandbox, a *CreateContainer) {
	for _, mount := range c.VolumeMounts {
		if mount.MountPath == etcHosts {
			return
		}
	}
	host := m.obj.Spec.HostNetwork
	if len(sb.IPs) == 0 && !host {
		return
	}
	a.Files.Hosts = filepath.Join(m.Settings.PodDir(m.UID), "etc-hosts")
	a.Files.HostsFromHost = host
	if host {
		a.Files.HostsContent = hostAliases(m.obj)
	} else {
		a.Files.HostsContent = m.hosts(sb.IPs)
	}
	a.Config.Mounts = append(a.Config.Mounts, &runtimev1.Mount{ContainerPath: etcHosts, HostPath: a.Files.Hosts})
}

func (m *maker) addTerminationLog(c ctr, attempt uint32, a *CreateContainer) {
	if c.TerminationMessagePath == "" {
		return
	}
	n := strconv.FormatUint(uint64(attempt), 10)
	a.Files.TerminationLog = filepath.Join(m.Settings.PodDir(m.UID), "containers", c.Name, n)
	a.Config.Mounts = append(a.Config.Mounts, &runtimev1.Mount{
		ContainerPath: absolute(c.TerminationMessagePath), HostPath: a.Files.TerminationLog,
	})
}

func absolute(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join("/", path)
}

// mounts gives the volume mounts of a container. The host path of a sub path
// is left to the executor: it has to be looked up without following links.
// Image volumes are mounted by the runtime, sub paths included.
func (m *maker) mounts(c ctr, env []*runtimev1.KeyValue, images map[string]*runtimev1.ImageSpec) ([]*runtimev1.Mount, []SubPath, error) {
	var all []*runtimev1.Mount
	var subs []SubPath
	volumes := m.volumes()
	for i := range c.VolumeMounts {
		mount := &c.VolumeMounts[i]
		image := images[mount.Name]
		host, ok := volumes.HostPaths[mount.Name]
		if !ok && image == nil {
			return nil, nil, &configError{fmt.Sprintf("cannot find volume %q to mount into container %q", mount.Name, c.Name)}
		}
		recursive, err := m.recursive(mount)
		if err != nil {
			return nil, nil, err
		}
		sub, err := subPath(mount, env)
		if err != nil {
			return nil, nil, err
		}
		if image != nil {
			all = append(all, &runtimev1.Mount{
				ContainerPath: absolute(mount.MountPath), Image: image, ImageSubPath: sub, Readonly: true,
				Propagation: propagation(mount.MountPropagation),
			})
			continue
		}
		if sub != "" {
			subs = append(subs, SubPath{Index: len(all), Volume: mount.Name, Path: sub})
		}
		all = append(all, &runtimev1.Mount{
			ContainerPath: absolute(mount.MountPath), HostPath: host,
			Readonly: mount.ReadOnly || m.readOnlyVolume(mount.Name), RecursiveReadOnly: recursive,
			Propagation: propagation(mount.MountPropagation),
		})
	}
	return all, subs, nil
}

// readOnlyVolume: the volume itself may only be read, whatever the mount says.
func (m *maker) readOnlyVolume(name string) bool {
	v := m.volume(name)
	return v != nil && (v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil ||
		v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ReadOnly || v.CSI != nil && v.CSI.ReadOnly != nil && *v.CSI.ReadOnly)
}

func (m *maker) recursive(mount *corev1.VolumeMount) (bool, error) {
	if mount.RecursiveReadOnly == nil || *mount.RecursiveReadOnly == corev1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	if !mount.ReadOnly {
		return false, &configError{fmt.Sprintf("volume %q: recursiveReadOnly needs readOnly", mount.Name)}
	}
	if *mount.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled && !m.features().RecursiveReadOnly {
		return false, &configError{fmt.Sprintf("volume %q: the runtime cannot make mounts recursively read-only", mount.Name)}
	}
	return m.features().RecursiveReadOnly, nil
}

func subPath(mount *corev1.VolumeMount, env []*runtimev1.KeyValue) (string, error) {
	sub := mount.SubPath
	if mount.SubPathExpr != "" {
		missing := ""
		sub = podref.Expand(mount.SubPathExpr, func(name string) (string, bool) {
			for _, e := range env {
				if e.Key == name {
					return string(e.Value), true
				}
			}
			missing = name
			return "", false
		})
		if missing != "" {
			return "", &configError{fmt.Sprintf("missing value for %q in subPathExpr of volume %q", missing, mount.Name)}
		}
	}
	if sub == "" {
		return "", nil
	}
	if strings.Contains(sub, stand) {
		return "", &configError{fmt.Sprintf("subPathExpr of volume %q uses a variable from a file (fileKeyRef), which is read too late for that", mount.Name)}
	}
	if filepath.IsAbs(sub) {
		return "", &configError{fmt.Sprintf("subPath %q of volume %q must not be an absolute path", sub, mount.Name)}
	}
	for _, part := range strings.Split(sub, "/") {
		if part == ".." {
			return "", &configError{fmt.Sprintf("subPath %q of volume %q must not contain '..'", sub, mount.Name)}
		}
	}
	return sub, nil
}

func propagation(p *corev1.MountPropagationMode) runtimev1.MountPropagation {
	if p == nil {
		return runtimev1.MountPropagation_PROPAGATION_PRIVATE
	}
	switch *p {
	case corev1.MountPropagationHostToContainer:
		return runtimev1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
	case corev1.MountPropagationBidirectional:
		return runtimev1.MountPropagation_PROPAGATION_BIDIRECTIONAL
	}
	return runtimev1.MountPropagation_PROPAGATION_PRIVATE
}
