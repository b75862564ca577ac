package nodeplan

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// Patch is the strategic merge patch that turns old into node, for the status subresource. Nil means
// that there is nothing to write.
func Patch(old, node *corev1.Node) ([]byte, error) {
	next := node.DeepCopy()
	next.Spec = old.Spec
	next.ManagedFields, next.ResourceVersion = old.ManagedFields, old.ResourceVersion
	// The API merges addresses by type, so that two of one type get lost: they are replaced as a whole.
	replace := !equality.Semantic.DeepEqual(old.Status.Addresses, next.Status.Addresses)
	if replace {
		next.Status.Addresses = old.Status.Addresses
	}
	before, err := json.Marshal(old)
	if err != nil {
		return nil, fmt.Errorf("encode node: %w", err)
	}
	after, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encode node: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Node{})
	if err != nil {
		return nil, fmt.Errorf("compare node: %w", err)
	}
	if replace {
		patch, err = replaceAddresses(patch, node.Status.Addresses)
		if err != nil {
			return nil, err
		}
	}
	if string(patch) == "{}" {
		return nil, nil
	}
	return patch, nil
}

func replaceAddresses(patch []byte, addresses []corev1.NodeAddress) ([]byte, error) {
	var p map[string]any
	if err := json.Unmarshal(patch, &p); err != nil {
		return nil, fmt.Errorf("decode patch: %w", err)
	}
	list := []any{}
	for _, a := range addresses {
		list = append(list, a)
	}
	list = append(list, map[string]string{"$patch": "replace"})
	status, ok := p["status"].(map[string]any)
	if !ok {
		status = map[string]any{}
		p["status"] = status
	}
	status["addresses"] = list
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	return b, nil
}
