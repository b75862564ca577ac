package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// foreignPods are one pod with all that a pod leaves on a node, and one that is over.
const foreignPods = `
apiVersion: v1
kind: ConfigMap
metadata: {name: kept}
data: {key: value}
---
apiVersion: v1
kind: Pod
metadata: {name: runs}
spec:
  containers:
    - name: c
      image: nodelet.local/busybox:1
      imagePullPolicy: IfNotPresent
      command: [sh, -c, "trap : TERM; sleep 6000 & wait; sleep 6000"]
      ports: [{containerPort: 80, hostPort: 18080}]
      resources: {requests: {cpu: 10m}, limits: {memory: 64Mi}}
      volumeMounts:
        - {name: memory, mountPath: /memory}
        - {name: config, mountPath: /config/key, subPath: key}
    - {name: crashes, image: nodelet.local/busybox:1, imagePullPolicy: IfNotPresent, command: ["false"]}
  volumes:
    - {name: memory, emptyDir: {medium: Memory}}
    - {name: config, configMap: {name: kept}}
---
apiVersion: v1
kind: Pod
metadata: {name: over}
spec:
  restartPolicy: Never
  containers: [{name: c, image: nodelet.local/busybox:1, imagePullPolicy: IfNotPresent, command: ["true"]}]
`

// foreignRuntime is a containerd of the distribution, in a directory of its own.
type foreignRuntime struct {
	t           *testing.T
	dir         string
	config, cni string
	cmd         *exec.Cmd
	log         bytes.Buffer
}

// runtimeNetns is where containerd 1.6 puts network namespaces, and runtimeRun where its shims have their
// sockets and runc its state, whatever directories it is given.
const (
	runtimeNetns = "/run/netns"
	runtimeRun   = "/run/containerd"
)

func newForeignRuntime(t *testing.T) *foreignRuntime {
	t.Helper()
	for _, program := range []string{"containerd", "ctr", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs the distribution's containerd: %v", err)
		}
	}
	dir, err := os.MkdirTemp("", "nl") //nolint:usetesting // its long names would overflow the limit of unix socket paths
	if err != nil {
		t.Fatal(err)
	}
	r := &foreignRuntime{t: t, dir: dir, config: filepath.Join(dir, "config.toml"), cni: filepath.Join(dir, "cni")}
	text := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/s"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "nodelet.local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "%[1]s/cni/bin"
    conf_dir = "%[1]s/cni/net.d"
`, dir)
	for _, d := range []string{filepath.Join(r.cni, "bin"), filepath.Join(r.cni, "net.d")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	hide(t, runtimeNetns)
	hide(t, runtimeRun)
	t.Cleanup(r.remove)
	r.start()
	for _, image := range []string{"pause", "busybox"} {
		r.ctr("images", "import", filepath.Join(bin(t), "images", image+".tar"))
	}
	return r
}

// hide keeps a directory of the machine out of a test, which gets an empty one in its place.
func hide(t *testing.T, dir string) {
	t.Helper()
	err := os.Mkdir(dir, 0o755)
	if err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	made := err == nil
	mustRun(t, exec.Command("mount", "-t", "tmpfs", "tmpfs", dir))
	t.Cleanup(func() {
		for _, point := range slices.Backward(mountsBelow(t, dir)) {
			if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", point, err)
			}
		}
		if made {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		}
	})
}

func (r *foreignRuntime) start() {
	r.t.Helper()
	r.cmd = exec.Command("containerd", "--config", r.config)
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	await(r.t, "containerd", func() bool { return exec.Command("ctr", "-a", r.socket(), "version").Run() == nil })
}

func (r *foreignRuntime) stop() {
	_ = r.cmd.Process.Kill() // it may have ended
	_ = r.cmd.Wait()         // killed
}

// remove takes down whatever is left.
func (r *foreignRuntime) remove() {
	if r.t.Failed() {
		r.t.Logf("containerd says:\n%s", tail(r.log.String(), 40))
		tasks, _ := exec.Command("ctr", "-a", r.socket(), "-n", "k8s.io", "tasks", "ls", "-q").Output() // what can be removed is
		for _, task := range strings.Fields(string(tasks)) {
			_ = exec.Command("ctr", "-a", r.socket(), "-n", "k8s.io", "tasks", "rm", "-f", task).Run()
		}
	}
	r.stop()
	for _, pid := range r.shims() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	for _, point := range slices.Backward(mountsBelow(r.t, r.dir)) {
		_ = syscall.Unmount(point, syscall.MNT_DETACH) // removal fails if it fails
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Error(err)
	}
}

func (r *foreignRuntime) socket() string { return filepath.Join(r.dir, "s") }

// ctr runs it in the namespace of CRI and gives its lines.
func (r *foreignRuntime) ctr(args ...string) []string {
	r.t.Helper()
	return strings.Fields(mustRun(r.t, exec.Command("ctr", append([]string{"-a", r.socket(), "-n", "k8s.io"}, args...)...)))
}

// shims that belong to it.
func (r *foreignRuntime) shims() (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well-formed
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(text), "-address\x00"+r.socket()+"\x00") {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(f, "/proc/%d/", &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// mountsBelow lists the mounts at and below dir.
func mountsBelow(t *testing.T, dir string) (points []string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if point := strings.Fields(line)[4]; point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	return points
}

// left is all that a node on a foreign runtime may leave, by kind.
func (r *foreignRuntime) left(p *place) map[string][]string {
	r.t.Helper()
	glob := func(patterns ...string) (all []string) {
		for _, pattern := range patterns {
			found, err := filepath.Glob(pattern)
			if err != nil {
				r.t.Fatal(err)
			}
			all = append(all, found...)
		}
		return all
	}
	links := mustRun(r.t, exec.Command("ip", "-br", "link", "show", "group", "77"))
	return map[string][]string{
		"containers":         slices.DeleteFunc(r.ctr("containers", "ls", "-q"), func(id string) bool { return id == theirs }),
		"tasks":              slices.DeleteFunc(r.ctr("tasks", "ls", "-q"), func(id string) bool { return id == theirs }),
		"network namespaces": glob(runtimeNetns + "/*"),
		"mounts of volumes":  mountsBelow(r.t, p.data),
		"mounts of pods":     mountsBelow(r.t, filepath.Join(r.dir, "state/io.containerd.grpc.v1.cri")),
		"cgroups":            glob("/sys/fs/cgroup/*"+p.cgroup+"/kubepods*", "/sys/fs/cgroup"+p.cgroup+"/kubepods*"),
		"links":              strings.Fields(links),
		"CNI":                glob(r.cni+"/*/*", "/var/lib/cni/*/*"),
		"seccomp profile":    glob(p.data + "/kubelet/*seccomp*"),
	}
}

// theirs is a container that somebody else runs beside the pods.
const theirs = "somebody-elses"

// TestResetForeignRuntime: pods ran on a containerd that is not ours; a reset, also after kills at bad moments,
// leaves nothing of them, and what others run there goes on.
func TestResetForeignRuntime(t *testing.T) {
	needRoot(t)
	p := newPlace(t)
	r := newForeignRuntime(t) // gone before the place is
	r.ctr("run", "-d", "--net-host", "nodelet.local/pause:1", theirs)
	t.Cleanup(func() { r.ctr("tasks", "rm", "-f", theirs) })
	up := p.up()
	up.Args = append(up.Args, "--container-runtime-endpoint", "unix://"+r.socket(), "--cni-bin-dir", r.cni+"/bin", "--cni-conf-dir", r.cni+"/net.d")
	mustRun(t, up)
	await(t, "the service account", func() bool { return p.command("kubectl", "get", "serviceaccount", "default").Run() == nil })
	file := filepath.Join(t.TempDir(), "pods.yaml")
	if err := os.WriteFile(file, []byte(foreignPods), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl(t, p, "apply", "-f", file)
	kubectl(t, p, "wait", "pod/over", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s")
	await(t, "a crash loop", func() bool {
		return strings.Contains(kubectl(t, p, "get", "pod", "runs", "-o", "jsonpath={.status.containerStatuses[*]}"), "CrashLoopBackOff")
	})
	for kind, there := range r.left(p) {
		if len(there) == 0 {
			t.Errorf("%s: there are none, so this test would not see what a reset leaves", kind)
		}
	}

	// Killed, all three, and the runtime is not back yet: a reset says so and takes nothing from under the pods.
	p.kill(t, "both")
	r.stop()
	out, err := p.command("reset", "--yes").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "start the runtime") {
		t.Errorf("reset without the runtime: %v\n%s", err, out)
	}
	if len(mountsBelow(t, p.data)) == 0 {
		t.Error("volumes were taken from under running pods")
	}
	r.start()
	mustRun(t, p.command("reset", "--yes"))
	mustRun(t, p.command("reset", "--verify"))
	for kind, there := range r.left(p) {
		if len(there) > 0 {
			t.Errorf("%s are left: %q", kind, there)
		}
	}
	if shims := r.shims(); len(shims) != 1 {
		t.Errorf("shims: %v, want that of the other container", shims)
	}
	if tasks := r.ctr("tasks", "ls", "-q"); !slices.Contains(tasks, theirs) {
		t.Errorf("somebody else's container does not run any more: %q", tasks)
	}
}
