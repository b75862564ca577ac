package node

import (
	"errors"
	"strings"
	"testing"
)

// What NodeRestriction lets pass, and what it does not (pkg/apis/core and plugin/pkg/admission/noderestriction upstream).
func TestLabelsThatANodeMayHave(t *testing.T) {
	for name, ok := range map[string]bool{
		"a":                                     true,
		"example.com/a":                         true,
		"notkubernetes.io/a":                    true,
		"kubernetes.io":                         true, // no domain, only a name
		"kubernetes.io/hostname":                true,
		"topology.kubernetes.io/zone":           true,
		"node.kubernetes.io/anything":           true,
		"x.node.kubernetes.io/anything":         true,
		"kubelet.kubernetes.io/anything":        true,
		"beta.kubernetes.io/arch":               true,
		"kubernetes.io/anything":                false,
		"node-role.kubernetes.io/worker":        false,
		"node-restriction.kubernetes.io/tenant": false,
		"xnode.kubernetes.io/a":                 false,
		"k8s.io/a":                              false,
		"topology.k8s.io/zone":                  false,
		"bad name":                              false,
		strings.Repeat("x", 64):                 false,
	} {
		err := errors.Join(checkLabels(map[string]string{name: "v"})...)
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "--node-labels") {
			t.Errorf("%s: the error names no flag: %v", name, err)
		}
	}
	err := errors.Join(checkLabels(map[string]string{"node-role.kubernetes.io/worker": "x"})...)
	if err == nil || !strings.Contains(err.Error(), "kubectl label node NODE node-role.kubernetes.io/worker=x") {
		t.Errorf("no way out: %v", err)
	}
	if errs := checkLabels(map[string]string{"a": "not a value"}); len(errs) != 1 {
		t.Errorf("a value with blanks: %v", errs)
	}
}
