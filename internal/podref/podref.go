package podref

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// References gives every ConfigMap and Secret that the pod's volumes, the
// environment of its containers of all kinds, and its imagePullSecrets name,
// sorted by kind, namespace and name. References without a name, which the
// API server lets through for historical reasons, are skipped.
func References(pod *corev1.Pod) []model.ConfigKey {
	c := collector{namespace: pod.Namespace}
	for i := range pod.Spec.Volumes {
		c.volume(&pod.Spec.Volumes[i].VolumeSource)
	}
	for i := range pod.Spec.InitContainers {
		c.environment(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		c.environment(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		// EphemeralContainerCommon has the fields of Container by declaration of the API.
		common := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		c.environment(&common)
	}
	for _, ref := range pod.Spec.ImagePullSecrets {
		c.add(model.Secret, ref.Name)
	}
	slices.SortFunc(c.keys, compare)
	return slices.Compact(c.keys)
}

type collector struct {
	namespace string
	keys      []model.ConfigKey
}

func (c *collector) add(kind model.ConfigKind, name string) {
	if name == "" {
		return
	}
	c.keys = append(c.keys, model.ConfigKey{Kind: kind, Key: model.Key{Namespace: c.namespace, Name: name}})
}

func (c *collector) volume(v *corev1.VolumeSource) {
	if v.ConfigMap != nil {
		c.add(model.ConfigMap, v.ConfigMap.Name)
	}
	if v.Secret != nil {
		c.add(model.Secret, v.Secret.SecretName)
	}
	if v.Projected == nil {
		return
	}
	for _, s := range v.Projected.Sources {
		if s.ConfigMap != nil {
			c.add(model.ConfigMap, s.ConfigMap.Name)
		}
		if s.Secret != nil {
			c.add(model.Secret, s.Secret.Name)
		}
	}
}

func (c *collector) environment(ctr *corev1.Container) {
	for _, from := range ctr.EnvFrom {
		if from.ConfigMapRef != nil {
			c.add(model.ConfigMap, from.ConfigMapRef.Name)
		}
		if from.SecretRef != nil {
			c.add(model.Secret, from.SecretRef.Name)
		}
	}
	for _, e := range ctr.Env {
		if e.ValueFrom == nil {
			continue
		}
		if ref := e.ValueFrom.ConfigMapKeyRef; ref != nil {
			c.add(model.ConfigMap, ref.Name)
		}
		if ref := e.ValueFrom.SecretKeyRef; ref != nil {
			c.add(model.Secret, ref.Name)
		}
	}
}

func compare(a, b model.ConfigKey) int {
	if a.Kind != b.Kind {
		return int(a.Kind) - int(b.Kind)
	}
	return a.Key.Compare(b.Key)
}
