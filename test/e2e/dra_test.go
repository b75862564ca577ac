package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	healthv1alpha1 "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"
	drav1 "k8s.io/kubelet/pkg/apis/dra/v1"

	"nodelet/agent/dra/dratest"
)

const draDriver = "gpu.example.com"

const draObjects = `
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: gpu}
spec:
  extendedResourceName: example.com/gpu
  selectors: [{cel: {expression: 'device.driver == "gpu.example.com"'}}]
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: gpus}
spec:
  driver: gpu.example.com
  nodeName: NODE
  pool: {name: pool, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu-0}, {name: gpu-1}]
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaimTemplate
metadata: {name: gpu}
spec: {spec: {devices: {requests: [{name: one, exactly: {deviceClassName: gpu}}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: templated}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1 # with 0 the API would not wait for the node
  resourceClaims: [{name: mine, resourceClaimTemplateName: gpu}]
  initContainers:
    - {name: init, image: nodelet.local/busybox:1, imagePullPolicy: IfNotPresent, command: [sh, -c, 'echo init $GOT'], resources: {claims: [{name: mine}]}}
  containers:
    - {name: with, image: nodelet.local/busybox:1, imagePullPolicy: IfNotPresent, command: [sh, -c, 'echo got $GOT; cat /device/name; sleep 600'], resources: {claims: [{name: mine, request: one}]}}
    - {name: without, image: nodelet.local/busybox:1, imagePullPolicy: IfNotPresent, command: [sh, -c, 'echo "none:$GOT"; sleep 600']}
---
apiVersion: v1
kind: Pod
metadata: {name: extended}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
    - {name: c, image: nodelet.local/busybox:1, imagePullPolicy: IfNotPresent, command: [sh, -c, 'echo got $GOT'], resources: {requests: {example.com/gpu: 1}, limits: {example.com/gpu: 1}}}
`

// cdiDir gives this test's processes a directory of CDI specifications of their own.
func cdiDir(t *testing.T) string {
	t.Helper()
	const dir = "/run/cdi"
	err := os.Mkdir(dir, 0o755)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	made := err == nil
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
		if made {
			_ = os.Remove(dir)
		}
	})
	return dir
}

// specify writes what the runtime is to do for a claim's device.
func specify(dir, content string, c *drav1.Claim) error {
	spec := map[string]any{
		"cdiVersion": "0.6.0", "kind": draDriver + "/test",
		"devices": []any{map[string]any{"name": "claim-" + c.GetUid(), "containerEdits": map[string]any{
			"env":    []string{"GOT=" + c.GetUid()},
			"mounts": []any{map[string]any{"hostPath": content, "containerPath": "/device/name", "options": []string{"ro", "bind"}}},
		}}},
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "claim-"+c.GetUid()+".json"), raw, 0o600)
}

// TestDynamicResources: a driver registers, the bundled scheduler allocates, the driver prepares, the real
// runtime injects; a killed daemon changes nothing, and at the end all is given back.
func TestDynamicResources(t *testing.T) {
	needRoot(t)
	specs, content := cdiDir(t), filepath.Join(t.TempDir(), "name")
	if err := os.WriteFile(content, []byte("a device\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	mustRun(t, p.up())
	mustRun(t, p.command("images", "import", filepath.Join(p.bin, "images/busybox.tar")))
	driver := &dratest.Driver{Name: draDriver}
	driver.OnPrepare = func(_ context.Context, q *drav1.NodePrepareResourcesRequest) (*drav1.NodePrepareResourcesResponse, error) {
		for _, c := range q.GetClaims() {
			if err := specify(specs, content, c); err != nil {
				return nil, err
			}
		}
		return driver.Answer(q)
	}
	if err := driver.Start(filepath.Join(p.data, "kubelet", "plugins"), "gpu"); err != nil {
		t.Fatal(err)
	}
	defer driver.Stop()
	if err := driver.Register(filepath.Join(p.data, "kubelet", "plugins_registry")); err != nil {
		t.Fatal(err)
	}
	await(t, "the service account", func() bool { return p.command("kubectl", "get", "serviceaccount", "default").Run() == nil })
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(draObjects, "NODE", p.name)), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, p, "apply", "-f", file)
	kubectl(t, p, "wait", "--for=condition=Ready", "pod/templated", "--timeout=90s")
	claim := strings.TrimSpace(kubectl(t, p, "get", "pod", "templated", "-o", "jsonpath={.status.resourceClaimStatuses[0].resourceClaimName}"))
	uid := strings.TrimSpace(kubectl(t, p, "get", "resourceclaim", claim, "-o", "jsonpath={.metadata.uid}"))
	logs := func(pod, container string) string { return kubectl(t, p, "logs", pod, "-c", container) }
	await(t, "the device in its container", func() bool { return logs("templated", "with") == "got "+uid+"\na device\n" })
	await(t, "no device in the other", func() bool { return logs("templated", "without") == "none:\n" })
	if got := logs("templated", "init"); got != "init "+uid+"\n" {
		t.Errorf("init container: %q", got)
	}
	kubectl(t, p, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/extended", "--timeout=90s")
	if got := logs("extended", "c"); !strings.HasPrefix(got, "got ") || len(got) < 20 {
		t.Errorf("extended resource: %q", got)
	}
	await(t, "only one claim left", func() bool { return strings.Join(driver.Prepared(), " ") == uid })
	driver.Tell("dev-"+claim, healthv1alpha1.HealthStatus_UNHEALTHY, "too hot", 1000)
	await(t, "the health in the status", func() bool {
		return strings.Contains(kubectl(t, p, "get", "pod", "templated", "-o", "jsonpath={.status.containerStatuses[*].allocatedResourcesStatus}"), "too hot")
	})
	if out, err := p.command("timeline", "pod/default/templated").CombinedOutput(); err != nil || !strings.Contains(string(out), "claims") {
		t.Errorf("timeline: %v\n%s", err, out)
	}
	metrics := kubectl(t, p, "get", "--raw", "/api/v1/nodes/"+p.name+"/proxy/metrics")
	for _, want := range []string{
		`dra_resource_claims_in_use{driver_name="<any>"} 1`, `dra_resource_claims_in_use{driver_name="gpu.example.com"} 1`,
		`dra_operations_duration_seconds_count{is_error="false",operation_name="PrepareResources"} 2`,
		`dra_grpc_operations_duration_seconds_count{driver_name="gpu.example.com",grpc_status_code="OK",method_name="/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources"} 2`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	driver.Calls()
	p.kill(t, "nodelet.pid")
	mustRun(t, p.up())
	kubectl(t, p, "delete", "pod", "templated", "--timeout=90s")
	if got := driver.Prepared(); len(got) > 0 {
		t.Errorf("prepared after the pod's end: %v", got)
	}
	if got := driver.Calls(); got != "unprepare "+claim {
		t.Errorf("calls after a restart: %s", got)
	}
	if got := kubectl(t, p, "get", "resourceslices", "-o", "name"); !strings.Contains(got, "gpus") {
		t.Errorf("a restart of the daemon has removed what the driver published: %q", got)
	}
}
