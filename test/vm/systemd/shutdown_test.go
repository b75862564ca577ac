package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// kubeletConfig makes the machine wait for pods for as long as an emulated one may need, systemd make
// the pods' cgroups, pods use swap, and the node answer for its logs and limit its own programs.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
shutdownGracePeriod: 20m
shutdownGracePeriodCriticalPods: 10m
failSwapOn: false
memorySwap: {swapBehavior: LimitedSwap}
enableSystemLogHandler: true
enableSystemLogQuery: true
enforceNodeAllocatable: [pods, system-reserved, kube-reserved-compressible]
systemReserved: {cpu: 200m, memory: 2560Mi}
systemReservedCgroup: /system.slice
kubeReserved: {cpu: 100m, memory: 16Mi}
kubeReservedCgroup: /vmkube.slice
`

// slowPods are a usual and a critical one, which take their time to end.
const slowPods = `
apiVersion: v1
kind: Pod
metadata: {name: usual, namespace: kube-system}
spec:
  terminationGracePeriodSeconds: 300
  containers:
  - name: c
    image: nodelet.local/busybox:1
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "trap 'sleep 5; exit 0' TERM; while :; do sleep 1; done"]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: critical, namespace: kube-system}
spec:
  priorityClassName: system-node-critical
  terminationGracePeriodSeconds: 300
  containers: [{name: c, image: "nodelet.local/busybox:1", imagePullPolicy: IfNotPresent, command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 1; done"]}]
`

// TestShutdown asks logind to power the machine off, and holds it by a lock of its own until everything was
// seen. It is the last test of this machine, by the name of its file.
func TestShutdown(t *testing.T) {
	if line, _ := os.ReadFile("/proc/cmdline"); !strings.Contains(string(line), "nodelet.vm") {
		t.Skip("needs a machine of its own with systemd: make test-vm RUN=systemd")
	}
	uplink(t)
	write(t, "/etc/kubelet.yaml", kubeletConfig)
	write(t, "/etc/default/nodelet", "NODELET_FLAGS=\"--kubelet-config /etc/kubelet.yaml\"\n")
	write(t, "/root/pods.yaml", slowPods)
	swapOn(t)
	run(t, "systemctl", "start", "vmkube.slice")
	allInOne(t)
	nodelet(t, "images import /vm/images/busybox.tar")
	eventually(t, "the service account", func() error { _, err := try("kubectl -n kube-system get serviceaccount default"); return err })
	persist(t, "kubectl apply -f /root/pods.yaml")
	persist(t, "kubectl -n kube-system wait --for=condition=Ready pod/usual pod/critical --timeout=300s")
	systemdSlices(t)
	swap(t)
	reserved(t)
	logs(t)
	eventually(t, "the lock", func() error {
		if out := run(t, "systemd-inhibit", "--list", "--no-pager"); !strings.Contains(out, "nodelet") {
			return fmt.Errorf("locks:\n%s", out)
		}
		return nil
	})
	if text := read(t, "/etc/systemd/logind.conf.d/99-nodelet.conf"); !strings.Contains(text, "InhibitDelayMaxSec=1200") {
		t.Errorf("logind is told\n%s", text)
	}
	hold(t)
	run(t, "busctl", "call", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "PowerOff", "b", "false")
	eventually(t, "the end of both pods", func() error {
		out, err := try("kubectl -n kube-system get pods usual critical -o jsonpath={.items[*].status.phase}/{.items[*].status.reason}")
		if err == nil && strings.TrimSpace(out) != "Failed Failed/Terminated Terminated" {
			err = fmt.Errorf("pods are %s", out)
		}
		return err
	})
	const finished = "jsonpath={.status.containerStatuses[0].state.terminated.finishedAt}"
	usual, critical := persist(t, "kubectl -n kube-system get pod usual -o "+finished), persist(t, "kubectl -n kube-system get pod critical -o "+finished)
	if critical < usual {
		t.Errorf("the critical pod ended at %s, before the usual one at %s", critical, usual)
	}
	out := persist(t, `kubectl get node vm -o jsonpath={.status.conditions[?(@.type=="Ready")]}`)
	if !strings.Contains(out, "node is shutting down") || !strings.Contains(out, `"status":"False"`) {
		t.Errorf("the node is %s", out)
	}
	eventually(t, "release of the lock", func() error {
		if out := run(t, "systemd-inhibit", "--list", "--no-pager"); strings.Contains(out, "pods have time to end") {
			return fmt.Errorf("locks:\n%s", out)
		}
		return nil
	})
}

// systemdSlices: the pods are in slices with their limits, which follow a resize and stay when systemd reads
// its configuration anew; the runtime's scopes are below them.
func systemdSlices(t *testing.T) {
	t.Helper()
	uid := strings.ReplaceAll(strings.TrimSpace(persist(t, "kubectl -n kube-system get pod usual -o jsonpath={.metadata.uid}")), "-", "_")
	slice := "kubepods-burstable-pod" + uid + ".slice"
	dir := "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/" + slice
	is := func(limit string) error {
		file, err := os.ReadFile(dir + "/memory.max")
		unit := run(t, "systemctl", "show", slice, "-p", "MemoryMax,ActiveState,CPUQuotaPerSecUSec")
		if err != nil || strings.TrimSpace(string(file)) != limit || !strings.Contains(unit, "MemoryMax="+limit+"\n") ||
			!strings.Contains(unit, "ActiveState=active") || !strings.Contains(unit, "CPUQuotaPerSecUSec=500ms") {
			return fmt.Errorf("memory.max is %q, read with %w, the unit\n%s", file, errors.Join(err, errors.New("limit "+limit+" expected")), unit)
		}
		return nil
	}
	eventually(t, "the slice", func() error { return is("67108864") })
	if scopes, _ := filepath.Glob(dir + "/cri-containerd-*.scope/cgroup.procs"); len(scopes) != 2 {
		t.Errorf("scopes of sandbox and container: %v", scopes)
	}
	persist(t, `kubectl -n kube-system patch pod usual --subresource resize -p {"spec":{"containers":[{"name":"c","resources":{"limits":{"memory":"96Mi"}}}]}}`)
	eventually(t, "the larger slice", func() error { return is("100663296") })
	run(t, "systemctl", "daemon-reload")
	if err := is("100663296"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/sys/fs/cgroup/kubepods"); err == nil {
		t.Error("there are cgroups that systemd does not know of")
	}
}

// podScopes reads a file of the scopes of a pod, its sandbox's and its container's.
func podScopes(t *testing.T, pod, file string) []string {
	t.Helper()
	uid := strings.ReplaceAll(strings.TrimSpace(persist(t, "kubectl -n kube-system get pod "+pod+" -o jsonpath={.metadata.uid}")), "-", "_")
	files, _ := filepath.Glob("/sys/fs/cgroup/kubepods.slice/*/*" + uid + ".slice/cri-containerd-*.scope/" + file)
	var all []string
	for _, f := range files {
		all = append(all, strings.TrimSpace(read(t, f)))
	}
	return all
}

// swap: a container that asks for memory has as much of the swap, one that is critical none.
func swap(t *testing.T) {
	t.Helper()
	if got, want := podScopes(t, "usual", "memory.swap.max"), swapOf(t, 32<<20); !slices.Contains(got, want) || want == "0" {
		t.Errorf("the usual pod may swap %v, want %s", got, want)
	}
	if got := podScopes(t, "critical", "memory.swap.max"); !slices.Contains(got, "0") {
		t.Errorf("the critical pod may swap %v", got)
	}
}

// reserved: the machine's own programs are limited to what is reserved for them, pods to the rest.
func reserved(t *testing.T) {
	t.Helper()
	has(t, "reserved", "system.slice", map[string]string{"memory.max": fmt.Sprint(2560 << 20), "cpu.weight": "8"})
	has(t, "reserved", "vmkube.slice", map[string]string{"memory.max": "max", "cpu.weight": "4"})
	if max := strings.TrimSpace(read(t, "/sys/fs/cgroup/kubepods.slice/memory.max")); max == "max" {
		t.Error("pods have all memory")
	}
}

// logs: the API server asks the node for the daemon's journal.
func logs(t *testing.T) {
	t.Helper()
	out := persist(t, "kubectl get --raw /api/v1/nodes/vm/proxy/logs/?query=kubelet&tailLines=5")
	if n := strings.Count(out, "nodelet["); n == 0 || n > 5 {
		t.Errorf("the last 5 lines of the daemon's journal:\n%s", out)
	}
}

// persist runs a command until it works: under emulation the API server misses its own time limits now and then.
func persist(t *testing.T, args string) (out string) {
	t.Helper()
	eventually(t, args, func() (err error) { out, err = try(args); return err })
	return out
}

// hold keeps the machine up until the guest has said its last word and switches it off: the lock outlives
// this test.
func hold(t *testing.T) {
	t.Helper()
	run(t, "systemd-run", "--unit=hold", "systemd-inhibit", "--what=shutdown", "--mode=delay", "--who=test", "sleep", "infinity")
	eventually(t, "a lock of the test's own", func() error {
		if out := run(t, "systemd-inhibit", "--list", "--no-pager"); !strings.Contains(out, "test") {
			return fmt.Errorf("locks:\n%s", out)
		}
		return nil
	})
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
