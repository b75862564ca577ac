package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCluster starts nodelet on two nodes and looks at what only a cluster of
// more than one shows.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a whole cluster")
	}
	bin, err := filepath.Abs("../../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"nodelet", "nodelet-cni", "nodelet-controlplane", "containerd-shim-runc-v2", "images/hello.tar"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			t.Skipf("%s is not built; run make build images", program)
		}
	}
	l := makeLab(t, 2)
	var out strings.Builder
	c := Cluster{Lab: l, Bin: bin, Images: filepath.Join(bin, "images"), Out: &out}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := c.Kubectl(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	for _, node := range []string{"node1", "node2"} {
		kubectl("run", "on-"+node, "--image=nodelet.local/hello:1", "--image-pull-policy=IfNotPresent", "--labels=app=x,on="+node,
			`--overrides={"spec":{"nodeName":"`+node+`","terminationGracePeriodSeconds":1}}`)
	}
	kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=x", "--timeout=60s")
	kubectl("expose", "pod", "on-node2", "--name=far", "--port=80", "--target-port=8080")
	podIP := kubectl("get", "pod", "on-node2", "-o", "jsonpath={.status.podIP}")
	service := kubectl("get", "service", "far", "-o", "jsonpath={.spec.clusterIP}")
	// From the first node to the pod and to the Service on the second.
	for _, to := range []string{podIP + ":8080", service + ":80"} {
		answer := run(t, &l.Nodes[0], "for i in $(seq 50); do curl -s -m 2 http://"+to+"/ && exit 0; sleep 0.2; done; exit 1")
		if !strings.HasPrefix(answer, "hello from on-node2 to 192.0.2.1:") {
			t.Errorf("%s answers %q", to, answer)
		}
	}
	// By way of the other node's kubelet API, as soon as its certificate is signed.
	for {
		_, err := c.Kubectl(ctx, "logs", "on-node2")
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
