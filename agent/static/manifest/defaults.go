package manifest

import (
	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/image/imageplan"
)

// setDefaults fills in what the API server does at creation (k8s.io/kubernetes
// pkg/apis/core/v1/defaults.go), as far as static pods can have it.
func setDefaults(pod *corev1.Pod) {
	spec := &pod.Spec
	unset(&spec.DNSPolicy, corev1.DNSClusterFirst)
	unset(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	unset(&spec.SchedulerName, corev1.DefaultSchedulerName)
	missing(&spec.SecurityContext, corev1.PodSecurityContext{})
	missing(&spec.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	missing(&spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	setPriority(spec)
	for i := range spec.Volumes {
		setVolumeDefaults(&spec.Volumes[i])
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			setContainerDefaults(&list[i], spec.HostNetwork)
		}
	}
	setPodRequests(spec)
}

// setPriority does what the admission plugin Priority would for the classes
// that every cluster has; others cannot be known without an API server.
func setPriority(spec *corev1.PodSpec) {
	classes := map[string]int32{"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
	if value, ok := classes[spec.PriorityClassName]; ok {
		missing(&spec.Priority, value)
	}
	if spec.Priority != nil {
		missing(&spec.PreemptionPolicy, corev1.PreemptLowerPriority)
	}
}

func setContainerDefaults(c *corev1.Container, hostNetwork bool) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = pullPolicy(c.Image)
	}
	unset(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	unset(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		p := &c.Ports[i]
		unset(&p.Protocol, corev1.ProtocolTCP)
		if hostNetwork && p.HostPort == 0 {
			p.HostPort = p.ContainerPort
		}
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil && from.FieldRef != nil {
			unset(&from.FieldRef.APIVersion, "v1")
		}
	}
	for name, limit := range c.Resources.Limits {
		if _, ok := c.Resources.Requests[name]; !ok {
			put(&c.Resources.Requests, name, limit)
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		setProbeDefaults(p)
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				setHTTPDefaults(h.HTTPGet)
			}
		}
	}
}

// setPodRequests: a limit of the pod as a whole is its request too, unless the containers say what they need.
func setPodRequests(spec *corev1.PodSpec) {
	if spec.Resources == nil {
		return
	}
	for name, limit := range spec.Resources.Limits {
		if _, ok := spec.Resources.Requests[name]; ok {
			continue
		}
		total, any := limit.DeepCopy(), false
		total.Set(0)
		for i := range spec.Containers {
			if q, ok := spec.Containers[i].Resources.Requests[name]; ok {
				total.Add(q)
				any = true
			}
		}
		if !any {
			total = limit
		}
		put(&spec.Resources.Requests, name, total)
	}
}

func pullPolicy(image string) corev1.PullPolicy {
	if name, err := imageplan.Parse(image); err == nil && name.Tag == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func setProbeDefaults(p *corev1.Probe) {
	if p == nil {
		return
	}
	unset(&p.TimeoutSeconds, 1)
	unset(&p.PeriodSeconds, 10)
	unset(&p.SuccessThreshold, 1)
	unset(&p.FailureThreshold, 3)
	setHTTPDefaults(p.HTTPGet)
	if p.GRPC != nil {
		missing(&p.GRPC.Service, "")
	}
}

func setHTTPDefaults(h *corev1.HTTPGetAction) {
	if h != nil {
		unset(&h.Path, "/")
		unset(&h.Scheme, corev1.URISchemeHTTP)
	}
}

func setVolumeDefaults(v *corev1.Volume) {
	const mode = int32(0o644)
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	if v.HostPath != nil {
		missing(&v.HostPath.Type, corev1.HostPathUnset)
	}
	if v.DownwardAPI != nil {
		missing(&v.DownwardAPI.DefaultMode, mode)
		setFieldDefaults(v.DownwardAPI.Items)
	}
	if v.Projected != nil {
		missing(&v.Projected.DefaultMode, mode)
		for i := range v.Projected.Sources {
			if d := v.Projected.Sources[i].DownwardAPI; d != nil {
				setFieldDefaults(d.Items)
			}
		}
	}
	if v.Image != nil && v.Image.PullPolicy == "" {
		v.Image.PullPolicy = pullPolicy(v.Image.Reference)
	}
}

func setFieldDefaults(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if items[i].FieldRef != nil {
			unset(&items[i].FieldRef.APIVersion, "v1")
		}
	}
}

func unset[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func missing[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}
