package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ownLabels are the labels of Kubernetes' own domains that a node may give itself, ownDomains the
// domains of which it may give itself any: what the admission plugin NodeRestriction lets pass.
var (
	ownLabels = []string{
		corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion,
		corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
		corev1.LabelInstanceType, corev1.LabelInstanceTypeStable, corev1.LabelOSStable, corev1.LabelArchStable,
		"beta.kubernetes.io/os", "beta.kubernetes.io/arch",
	}
	ownDomains = []string{corev1.LabelNamespaceSuffixKubelet, corev1.LabelNamespaceSuffixNode}
)

// checkLabels says what is wrong with labels that the node is to give itself. An API server with
// NodeRestriction would refuse the whole node for one of them.
func checkLabels(labels map[string]string) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if e := validation.IsQualifiedName(name); len(e) > 0 {
			errs = append(errs, fmt.Errorf("--node-labels: name %q: %s", name, e[0]))
		}
		if e := validation.IsValidLabelValue(labels[name]); len(e) > 0 {
			errs = append(errs, fmt.Errorf("--node-labels: value %q of %s: %s", labels[name], name, e[0]))
		}
		domain, _, _ := strings.Cut(name, "/")
		if below(domain, "kubernetes.io", "k8s.io") && domain != name && !below(domain, ownDomains...) && !slices.Contains(ownLabels, name) {
			errs = append(errs, fmt.Errorf("--node-labels: a node may not give itself the label %s: use a name of a domain of your own or below %s, or have an administrator do it: kubectl label node NODE %s=%s",
				name, strings.Join(ownDomains, " or "), name, labels[name]))
		}
	}
	return errs
}

// below reports whether a domain is one of those, or a part of it.
func below(domain string, others ...string) bool {
	return slices.ContainsFunc(others, func(o string) bool { return domain == o || strings.HasSuffix(domain, "."+o) })
}
