package controllers

import (
	"net/http"
	"testing"

	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"

	"nodelet/controlplane/pki"
	"nodelet/controlplane/upstream"
)

func TestArgs(t *testing.T) {
	o, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		t.Fatal(err)
	}
	all, off, aliases := app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases()
	c := Config{
		Kubeconfig: "/k", ServiceCIDR: "10.96.0.0/12", ClusterCIDR: "10.244.0.0/16", FlexVolumeDir: "/f",
		Files: pki.Paths("/pki"), ExtraArgs: []string{"--concurrent-job-syncs=1"},
	}
	if err := upstream.Parse("controller-manager", o.Flags(all, off, aliases), c.Args()); err != nil {
		t.Fatal(err)
	}
	if o.Generic.LeaderElection.LeaderElect || o.SecureServing.BindPort != 0 {
		t.Error("leader election or an own port is on")
	}
	if !o.KubeCloudShared.AllocateNodeCIDRs || o.KubeCloudShared.ClusterCIDR != "10.244.0.0/16" {
		t.Errorf("nodes get no pod range: %+v", o.KubeCloudShared)
	}
	if o.JobController.ConcurrentJobSyncs != 1 {
		t.Error("the operator's flag is lost")
	}
}

type recorder struct{ asked []string }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.asked = append(r.asked, req.URL.RequestURI())
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestImpatient(t *testing.T) {
	var r recorder
	for path, late := range map[string]bool{"/healthz": true, "/healthz?verbose": false, "/api/v1/nodes": false} {
		req, err := http.NewRequest(http.MethodGet, "https://127.0.0.1:6443"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		before := req.URL.String()
		resp, err := impatient{&r}.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := r.asked[len(r.asked)-1]; (got != path) != late {
			t.Errorf("%s became %s", path, got)
		}
		if req.URL.String() != before {
			t.Errorf("%s: the caller's request was changed", path)
		}
	}
}
