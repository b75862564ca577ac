package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"nodelet/agent/exclusive/plugintest"
)

const devicePod = `
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
    - name: c
      image: nodelet.local/busybox:1
      imagePullPolicy: IfNotPresent
      command: [sh, -c, "echo got $DEVICES; test -c /dev/mine && echo node; sleep 600"]
      resources: {limits: {vendor.com/gpu: 1}}
`

// TestDevicePlugin: a device reaches a container of the real runtime, the node tells of what there is, and a
// killed daemon changes nothing.
func TestDevicePlugin(t *testing.T) {
	needRoot(t)
	p := newPlace(t)
	mustRun(t, p.up())
	mustRun(t, p.command("images", "import", filepath.Join(p.bin, "images/busybox.tar")))
	plugin := &plugintest.Plugin{Resource: "vendor.com/gpu", OnAllocate: func(_ context.Context, ids []string) (*pluginapi.ContainerAllocateResponse, error) {
		return &pluginapi.ContainerAllocateResponse{
			Envs:    map[string]string{"DEVICES": strings.Join(ids, " ")},
			Devices: []*pluginapi.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/dev/mine", Permissions: "rw"}},
		}, nil
	}}
	if err := plugin.Start(filepath.Join(p.data, "kubelet", "device-plugins"), "a"); err != nil {
		t.Fatal(err)
	}
	defer plugin.Stop()
	if err := plugin.Register(t.Context(), pluginapi.Version); err != nil {
		t.Fatal(err)
	}
	allocatable := func() string {
		return kubectl(t, p, "get", "node", p.name, "-o", `jsonpath={.status.allocatable.vendor\.com/gpu}`)
	}
	await(t, "the device in the node's status", func() bool { return allocatable() == "1" })
	await(t, "the service account", func() bool { return p.command("kubectl", "get", "serviceaccount", "default").Run() == nil })
	apply := func(name string) {
		file := filepath.Join(t.TempDir(), name+".yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(devicePod, "NAME", name)), 0o600); err != nil {
			t.Fatal(err)
		}
		kubectl(t, p, "apply", "-f", file)
	}
	apply("one")
	kubectl(t, p, "wait", "--for=condition=Ready", "pod/one", "--timeout=90s")
	await(t, "the device in the container", func() bool {
		return strings.Contains(kubectl(t, p, "logs", "one"), "got a\nnode\n")
	})
	p.kill(t, "nodelet.pid")
	mustRun(t, p.up())
	if got := allocatable(); got != "1" {
		t.Errorf("allocatable after a restart: %q", got)
	}
	kubectl(t, p, "delete", "pod", "one", "--timeout=60s")
	apply("two") // the plugin has not registered anew
	kubectl(t, p, "wait", "--for=condition=Ready", "pod/two", "--timeout=90s")
	plugin.Stop()
	await(t, "no device", func() bool { return allocatable() == "0" })
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 90 s", what)
		}
	}
}
