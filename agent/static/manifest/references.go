package manifest

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/internal/model"
	"nodelet/internal/podref"
)

// reference says what of the API a pod needs; empty for nothing. As upstream
// since 1.34 (PreventStaticPodAPIReferences).
func reference(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName != "" || pod.Spec.DeprecatedServiceAccount != "" {
		return "service accounts"
	}
	if len(pod.Spec.ImagePullSecrets) > 0 {
		return "secrets (imagePullSecrets)"
	}
	if keys := podref.References(pod); len(keys) > 0 {
		what := "config maps"
		if keys[0].Kind == model.Secret {
			what = "secrets"
		}
		return what + " (" + keys[0].Key.Name + ")"
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		return "resource claims"
	}
	for i := range pod.Spec.Volumes {
		if what := volumeReference(&pod.Spec.Volumes[i]); what != "" {
			return what + " (volume " + pod.Spec.Volumes[i].Name + ")"
		}
	}
	return ""
}

func volumeReference(v *corev1.Volume) string {
	switch {
	case v.ConfigMap != nil:
		return "config maps"
	case v.Secret != nil, v.AzureFile != nil:
		return "secrets"
	case v.CSI != nil:
		return "CSI drivers"
	case v.Glusterfs != nil:
		return "endpoints"
	case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
		return "persistent volume claims"
	case v.Projected == nil:
		return ""
	}
	for _, s := range v.Projected.Sources {
		switch {
		case s.ConfigMap != nil:
			return "config maps"
		case s.Secret != nil:
			return "secrets"
		case s.ServiceAccountToken != nil:
			return "service accounts"
		case s.ClusterTrustBundle != nil:
			return "cluster trust bundles"
		case s.PodCertificate != nil:
			return "pod certificates"
		}
	}
	return ""
}

func put(list *corev1.ResourceList, name corev1.ResourceName, q resource.Quantity) {
	if *list == nil {
		*list = corev1.ResourceList{}
	}
	(*list)[name] = q.DeepCopy()
}
