package admission

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// matchesNode: the node has the labels and the name that the pod's nodeSelector
// and required node affinity ask for.
func matchesNode(pod *corev1.Pod, node Node) bool {
	for k, v := range pod.Spec.NodeSelector {
		if have, ok := node.Labels[k]; !ok || have != v {
			return false
		}
	}
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	return slices.ContainsFunc(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		return matchesTerm(t, node)
	})
}

// matchesTerm: all of a term's requirements hold; one without any selects nothing.
func matchesTerm(t corev1.NodeSelectorTerm, node Node) bool {
	if len(t.MatchExpressions)+len(t.MatchFields) == 0 {
		return false
	}
	fields := map[string]string{"metadata.name": node.Name}
	return all(t.MatchExpressions, node.Labels) && all(t.MatchFields, fields)
}

func all(requirements []corev1.NodeSelectorRequirement, have map[string]string) bool {
	for _, r := range requirements {
		op, ok := map[corev1.NodeSelectorOperator]selection.Operator{
			corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn,
			corev1.NodeSelectorOpExists: selection.Exists, corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
			corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
		}[r.Operator]
		if !ok {
			return false
		}
		parsed, err := labels.NewRequirement(r.Key, op, r.Values)
		if err != nil || !parsed.Matches(labels.Set(have)) {
			return false // what cannot be read cannot be fulfilled
		}
	}
	return true
}
