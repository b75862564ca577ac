package kube

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
)

// TestDynamicResources: only what a node may ask for is asked for, claims by name and slices by this node.
func TestDynamicResources(t *testing.T) {
	var selectors []string
	api := http.NewServeMux()
	api.HandleFunc("GET /apis/resource.k8s.io/v1/namespaces/ns/resourceclaims/c", func(w http.ResponseWriter, _ *http.Request) {
		c := resourcev1.ResourceClaim{TypeMeta: metav1.TypeMeta{APIVersion: "resource.k8s.io/v1", Kind: "ResourceClaim"}}
		c.Name, c.UID = "c", "u"
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c)
	})
	api.HandleFunc("DELETE /apis/resource.k8s.io/v1/resourceslices", func(w http.ResponseWriter, r *http.Request) {
		selectors = append(selectors, r.URL.Query().Get("fieldSelector"))
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess})
	})
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	client, err := New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := client.GetResourceClaim(t.Context(), model.Key{Namespace: "ns", Name: "c"}); err != nil || c.UID != "u" {
		t.Errorf("claim: %v %v", c, err)
	}
	if _, err := client.GetResourceClaim(t.Context(), model.Key{Namespace: "ns", Name: "none"}); !apierrors.IsNotFound(err) {
		t.Errorf("no claim: %v", err)
	}
	for _, driver := range []string{"", "d.com"} {
		if err := client.DeleteResourceSlices(t.Context(), "n", driver); err != nil {
			t.Error(err)
		}
	}
	if len(selectors) != 2 || selectors[0] != "spec.nodeName=n" || selectors[1] != "spec.driver=d.com,spec.nodeName=n" {
		t.Errorf("selectors: %q", selectors)
	}
}
