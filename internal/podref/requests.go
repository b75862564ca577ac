package podref

import corev1 "k8s.io/api/core/v1"

// Requests is what a pod asks for as a whole, as the scheduler counts it.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	list := Total(&pod.Spec, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Requests })
	if r := pod.Spec.Resources; r != nil {
		override(list, r.Requests)
	}
	add(list, pod.Spec.Overhead)
	return list
}

// Limits is what a pod may use as a whole. A resource without any limit is not
// in it; overhead widens a limit and does not make one.
func Limits(pod *corev1.Pod) corev1.ResourceList {
	list := Total(&pod.Spec, func(c *corev1.Container) corev1.ResourceList { return c.Resources.Limits })
	if r := pod.Spec.Resources; r != nil {
		override(list, r.Limits)
	}
	for name, q := range pod.Spec.Overhead {
		if old, ok := list[name]; ok {
			old.Add(q)
			list[name] = old
		}
	}
	return list
}

// Total adds up a list of resources over the containers of a pod: containers
// and sidecars run together, init containers one at a time beside the sidecars
// that were started before them.
func Total(spec *corev1.PodSpec, of func(*corev1.Container) corev1.ResourceList) corev1.ResourceList {
	total, sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range spec.Containers {
		add(total, of(&spec.Containers[i]))
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(sidecars, of(c))
			add(total, of(c))
			raise(peak, sidecars)
			continue
		}
		now := sidecars.DeepCopy()
		add(now, of(c))
		raise(peak, now)
	}
	raise(total, peak)
	return total
}

func add(to, list corev1.ResourceList) {
	for name, q := range list {
		old := to[name]
		old.Add(q)
		to[name] = old
	}
}

// raise sets each resource to the greater of both.
func raise(to, list corev1.ResourceList) {
	for name, q := range list {
		if old, ok := to[name]; !ok || q.Cmp(old) > 0 {
			to[name] = q.DeepCopy()
		}
	}
}

func override(to, list corev1.ResourceList) {
	for name, q := range list {
		to[name] = q.DeepCopy()
	}
}
