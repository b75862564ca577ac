package draplan

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
)

// Need is a ResourceClaim that a pod needs, in the pod's namespace.
type Need struct {
	Claim string
	// Owned: it was made for the pod from a template, and must belong to it.
	Owned bool
}

// Any reports whether a pod refers to claims at all.
func Any(pod *corev1.Pod) bool {
	return len(pod.Spec.ResourceClaims) > 0 || pod.Status.ExtendedResourceClaimStatus != nil
}

// Needs are the claims of a pod by the names of their objects, none twice:
// those of spec.resourceClaims, whichever container uses them, and the one that
// the scheduler made for extended resources (KEP-5004). An error says which one
// is not made yet.
func Needs(pod *corev1.Pod) ([]Need, error) {
	var all []Need
	for i := range pod.Spec.ResourceClaims {
		c := &pod.Spec.ResourceClaims[i]
		name, err := objectName(pod, c)
		if err != nil {
			return nil, err
		}
		if name != "" {
			all = append(all, Need{Claim: name, Owned: c.ResourceClaimName == nil})
		}
	}
	if x := pod.Status.ExtendedResourceClaimStatus; x != nil {
		all = append(all, Need{Claim: x.ResourceClaimName})
	}
	slices.SortFunc(all, func(a, b Need) int {
		switch {
		case a.Claim != b.Claim:
			return cmp.Compare(a.Claim, b.Claim)
		case a.Owned:
			return -1
		}
		return 1
	})
	return slices.CompactFunc(all, func(a, b Need) bool { return a.Claim == b.Claim }), nil
}

// objectName is the name of the object behind one of spec.resourceClaims; empty
// where the control plane has decided that none is needed.
func objectName(pod *corev1.Pod, c *corev1.PodResourceClaim) (string, error) {
	switch {
	case c.ResourceClaimName != nil:
		return *c.ResourceClaimName, nil
	case c.ResourceClaimTemplateName == nil:
		return "", fmt.Errorf("spec.resourceClaims %q names neither a ResourceClaim nor a template: its kind is not known here", c.Name)
	}
	for i := range pod.Status.ResourceClaimStatuses {
		if s := &pod.Status.ResourceClaimStatuses[i]; s.Name == c.Name {
			if s.ResourceClaimName == nil {
				return "", nil
			}
			return *s.ResourceClaimName, nil
		}
	}
	return "", fmt.Errorf("the ResourceClaim for spec.resourceClaims %q has not been made yet from template %q", c.Name, *c.ResourceClaimTemplateName)
}

// check says why a pod may not use a claim.
func check(pod *corev1.Pod, need Need, claim *resourcev1.ResourceClaim) error {
	if need.Owned && !metav1.IsControlledBy(claim, pod) {
		return fmt.Errorf("ResourceClaim %s was not made for this pod: another owns it", claim.Name)
	}
	if claim.Status.Allocation == nil {
		return fmt.Errorf("ResourceClaim %s is not allocated: the scheduler does that for pods that it places, this one may have been placed by its spec.nodeName", claim.Name)
	}
	if !slices.ContainsFunc(claim.Status.ReservedFor, func(r resourcev1.ResourceClaimConsumerReference) bool { return r.UID == pod.UID }) {
		return fmt.Errorf("pod %s (%s) is not allowed to use ResourceClaim %s (%s): it is not reserved for the pod", pod.Name, pod.UID, claim.Name, claim.UID)
	}
	return nil
}

// key is that of a claim of a pod.
func key(pod *corev1.Pod, claim string) model.Key {
	return model.Key{Namespace: pod.Namespace, Name: claim}
}
