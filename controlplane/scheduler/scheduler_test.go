package scheduler

import (
	"testing"

	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"nodelet/controlplane/upstream"
)

func TestArgs(t *testing.T) {
	o := options.NewOptions()
	c := Config{Kubeconfig: "/k", ExtraArgs: []string{"--pod-max-in-unschedulable-pods-duration=1m"}}
	if err := upstream.Parse("scheduler", *o.Flags, c.Args()); err != nil {
		t.Fatal(err)
	}
	if o.LeaderElection.LeaderElect || o.SecureServing.BindPort != 0 {
		t.Error("leader election or an own port is on")
	}
}
