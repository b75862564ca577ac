package volumeplan

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// reachable reports whether a volume can be used on this node: one of the
// terms of its node affinity matches. Without an affinity it can be used anywhere.
func (f Facts) reachable(a *corev1.VolumeNodeAffinity) bool {
	if a == nil || a.Required == nil {
		return true
	}
	for _, term := range a.Required.NodeSelectorTerms {
		if len(term.MatchExpressions)+len(term.MatchFields) > 0 &&
			matches(term.MatchExpressions, f.NodeLabels) &&
			matches(term.MatchFields, map[string]string{"metadata.name": f.NodeName}) {
			return true
		}
	}
	return false
}

// operator gives an operator in the words of label selectors.
func operator(o corev1.NodeSelectorOperator) selection.Operator {
	switch o {
	case corev1.NodeSelectorOpIn:
		return selection.In
	case corev1.NodeSelectorOpNotIn:
		return selection.NotIn
	case corev1.NodeSelectorOpExists:
		return selection.Exists
	case corev1.NodeSelectorOpDoesNotExist:
		return selection.DoesNotExist
	case corev1.NodeSelectorOpGt:
		return selection.GreaterThan
	case corev1.NodeSelectorOpLt:
		return selection.LessThan
	}
	return selection.Operator(o)
}

// matches reports whether all requirements hold; one that is malformed never does.
func matches(all []corev1.NodeSelectorRequirement, set map[string]string) bool {
	for _, r := range all {
		requirement, err := labels.NewRequirement(r.Key, operator(r.Operator), r.Values)
		if err != nil || !requirement.Matches(labels.Set(set)) {
			return false
		}
	}
	return true
}
