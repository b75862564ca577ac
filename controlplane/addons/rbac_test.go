package addons

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// deploy/rbac.yaml gives nodes in other clusters the rights that they have in ours.
func TestRightsInOtherClusters(t *testing.T) {
	text, err := os.ReadFile("../../deploy/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.ClusterRole
	var binding rbacv1.ClusterRoleBinding
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	if err := errors.Join(d.Decode(&role), d.Decode(&binding)); err != nil {
		t.Fatal(err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		t.Errorf("more than a role and a binding: %v", err)
	}
	for _, c := range []struct{ file, ours any }{{&role, nodeRole()}, {&binding, bindings()[0]}} {
		if file, ours := fields(t, c.file), fields(t, c.ours); !reflect.DeepEqual(file, ours) {
			t.Errorf("the file has\n%v\nand ours has\n%v", file, ours)
		}
	}
}

// fields is an object as the API server gets it.
func fields(t *testing.T, o any) map[string]any {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
