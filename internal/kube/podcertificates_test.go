package kube

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/rest"

	"nodelet/internal/model"
)

// Requests of pods for certificates work with a server that has v1beta1 only, as before Kubernetes 1.37.
func TestPodCertificateRequestsBefore137(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		if r.URL.Path != "/apis/certificates.k8s.io/v1beta1/namespaces/ns/podcertificaterequests" && r.URL.Path != "/apis/certificates.k8s.io/v1beta1/namespaces/ns/podcertificaterequests/req-1" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"apiVersion":"certificates.k8s.io/v1beta1","kind":"PodCertificateRequest","metadata":{"namespace":"ns","name":"req-1"},
			"status":{"conditions":[{"type":"Issued"}],"certificateChain":"pem","notBefore":"2026-01-01T00:00:00Z","beginRefreshAt":"2026-01-01T01:00:00Z","notAfter":"2026-01-01T02:00:00Z"}}`)
	}))
	defer srv.Close()
	client, err := New(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	r := &certificatesv1.PodCertificateRequest{}
	r.Namespace, r.GenerateName = "ns", "req-"
	made, err := client.CreatePodCertificateRequest(t.Context(), r)
	if err != nil || made.Name != "req-1" {
		t.Fatal(made, err)
	}
	got, err := client.GetPodCertificateRequest(t.Context(), model.Key{Namespace: "ns", Name: "req-1"})
	if err != nil {
		t.Fatal(err)
	}
	if s := got.Status; len(s.Conditions) != 1 || s.CertificateChain != "pem" || s.NotBefore.Hour() != 0 || s.BeginRefreshAt.UTC().Hour() != 1 || s.NotAfter.UTC().Hour() != 2 {
		t.Errorf("status %+v", s)
	}
	base := "/apis/certificates.k8s.io/"
	if want := []string{
		"POST " + base + "v1/namespaces/ns/podcertificaterequests", "POST " + base + "v1beta1/namespaces/ns/podcertificaterequests",
		"GET " + base + "v1/namespaces/ns/podcertificaterequests/req-1", "GET " + base + "v1beta1/namespaces/ns/podcertificaterequests/req-1",
	}; !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
}
