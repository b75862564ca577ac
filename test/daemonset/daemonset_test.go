package daemonset

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodelet/test/netlab/lab"
)

const (
	labID = "daemonset"
	// patience is for one step on a busy machine.
	patience = 3 * time.Minute
)

func TestMain(m *testing.M) {
	lab.Hold()
	os.Exit(m.Run())
}

// world is a node of upstream's making.
type world struct {
	t         *testing.T
	node      *lab.Node
	bin, work string
}

// TestDaemonSet installs nodelet as Service proxy and DNS on a foreign node,
// uses both from a pod, and takes it away again without a trace.
func TestDaemonSet(t *testing.T) {
	kubelet := os.Getenv("NODELET_KUBELET")
	if kubelet == "" {
		t.Skip("needs upstream's kubelet, containerd and CNI plugins: make e2e-daemonset")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: starts containers and programs the kernel")
	}
	w := newWorld(t)
	before := w.shell("ip -br link; ip -br addr show lo; nft list tables; ls /run")
	w.controlPlane()
	w.containerd()
	w.kubelet(kubelet)
	w.eventually("node Ready", func() error { return w.try("kubectl", "wait", "node/node1", "--for=condition=Ready", "--timeout=10s") })
	w.install()
	w.workload()
	w.remove()
	w.undisturbed()
	after := w.shell("ip -br link show type dummy; ip -br addr show lo; nft list tables; ls /run")
	for _, ours := range []string{"nodelet-proxy", "nodelet-dns", "10.96.0.10"} {
		if strings.Contains(after, ours) {
			t.Errorf("%s is left behind:\nbefore:\n%s\nafter:\n%s", ours, before, after)
		}
	}
	if _, err := os.Stat(filepath.Join(w.node.Dir, "root/var/lib/nodelet/node.json")); err == nil {
		t.Error("/var/lib/nodelet is left behind")
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if err := lab.Down(labID); err != nil { // what a killed run left
		t.Fatal(err)
	}
	l, err := lab.Up(lab.Options{ID: labID, Nodes: 1, Bound: true})
	if err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, node: &l.Nodes[0], bin: bin, work: filepath.Join(l.Nodes[0].Dir, "work")}
	if err := os.MkdirAll(w.work, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.dump()
		}
		if err := lab.Down(labID); err != nil {
			t.Error(err)
		}
		w.removeCgroups()
	})
	return w
}

// removeCgroups removes what upstream's kubelet leaves: a hierarchy of empty cgroups.
func (w *world) removeCgroups() {
	out, err := exec.Command("find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", "*"+w.cgroup()+"*", "-exec", "rmdir", "{}", ";").CombinedOutput()
	if left, _ := filepath.Glob("/sys/fs/cgroup/*" + w.cgroup()); len(left) > 0 {
		w.t.Errorf("cgroups are left: %v (%v, %s)", left, err, out)
	}
}

func (w *world) cgroup() string { return "/nodelet-daemonset-test" }

// start runs a program in the node until the lab ends; it logs into a file.
func (w *world) start(name string, args ...string) {
	w.t.Helper()
	log, err := os.Create(filepath.Join(w.work, filepath.Base(name)+".log"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	// setsid --fork leaves it to the node's process 1.
	cmd := w.node.Command(context.Background(), "setsid", append([]string{"--fork", name}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("start %s: %v", name, err)
	}
}

// cp is the control plane's directory: below the lab's, so that it goes with it.
func (w *world) cp() string { return filepath.Join(w.work, "controlplane") }

func (w *world) controlPlane() {
	w.start(filepath.Join(w.bin, "nodelet-controlplane"), "serve", "--data-dir", w.cp(),
		"--node-name", "node1", "--advertise-address", w.node.IP.String())
	w.eventually("the API", func() error { return w.try("kubectl", "get", "--raw", "/readyz") })
	w.must("nodelet-controlplane", "node-kubeconfig", "--data-dir", w.cp(), "--node-name", "node1",
		"--server", fmt.Sprintf("https://%s:6443", w.node.IP), "--node-ip", w.node.IP.String(), "--out-dir", filepath.Join(w.work, "keys"))
}

// containerd is the distribution's, with its bridge plugin and our pause image.
func (w *world) containerd() {
	w.file("containerd.toml", fmt.Sprintf(`version = 2
root = "%[1]s/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "nodelet.local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
`, w.work))
	net := filepath.Join(w.node.Dir, "root/etc/cni/net.d")
	if err := os.MkdirAll(net, 0o755); err != nil {
		w.t.Fatal(err)
	}
	conf := `{"cniVersion":"0.4.0","name":"foreign","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
  "ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}`
	if err := os.WriteFile(filepath.Join(net, "10-foreign.conflist"), []byte(conf), 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.must("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	w.start("containerd", "--config", filepath.Join(w.work, "containerd.toml"))
	w.eventually("containerd", func() error { return w.try("ctr", "version") })
	for _, image := range []string{"pause", "hello", "busybox", "nodelet"} {
		w.must("ctr", "-n", "k8s.io", "images", "import", filepath.Join(w.bin, "images", image+".tar"))
	}
}

func (w *world) kubelet(program string) {
	keys := filepath.Join(w.work, "keys")
	w.file("kubelet.yaml", fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: %s
failCgroupV1: false
failSwapOn: false
protectKernelDefaults: false
enforceNodeAllocatable: []
oomScoreAdj: 0
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
resolvConf: /etc/resolv.conf
tlsCertFile: %[2]s/pki/kubelet-server.crt
tlsPrivateKeyFile: %[2]s/pki/kubelet-server.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[2]s/pki/kubelet-client-ca.crt}
authorization: {mode: Webhook}
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, imagefs.available: 1%%}
`, w.cgroup(), keys))
	for _, tree := range []string{"", "cpu", "memory", "pids", "cpuset", "cpuacct", "systemd", "hugetlb", "unified"} {
		_ = os.Mkdir(filepath.Join("/sys/fs/cgroup", tree, w.cgroup()), 0o755) // where there is such a tree
	}
	w.start(program, "--config", filepath.Join(w.work, "kubelet.yaml"), "--kubeconfig", filepath.Join(keys, "node.kubeconfig"),
		"--hostname-override", "node1", "--node-ip", w.node.IP.String(), "--root-dir", "/var/lib/kubelet")
}

// install does what the head of deploy/daemonset.yaml says.
func (w *world) install() {
	text, err := os.ReadFile("../../deploy/daemonset.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	server := fmt.Sprintf("https://%s:6443", w.node.IP)
	if !bytes.Contains(text, []byte("https://CHANGE-ME:6443")) {
		w.t.Fatal("deploy/daemonset.yaml has no --api-server to change")
	}
	w.file("daemonset.yaml", strings.ReplaceAll(string(text), "https://CHANGE-ME:6443", server))
	w.must("kubectl", "apply", "-f", filepath.Join(w.work, "daemonset.yaml"))
	w.must("kubectl", "-n", "kube-system", "rollout", "status", "daemonset/nodelet", "--timeout="+patience.String())
}

// workload uses Service and DNS from a pod and from the node.
func (w *world) workload() {
	w.must("kubectl", "apply", "-f", w.example("hello.yaml"))
	w.must("kubectl", "rollout", "status", "deployment/hello", "--timeout="+patience.String())
	w.must("kubectl", "apply", "-f", w.example("client.yaml"))
	w.must("kubectl", "wait", "--for=condition=complete", "job/hello-client", "--timeout="+patience.String())
	w.t.Logf("the client says:\n%s", w.must("kubectl", "logs", "job/hello-client"))
	w.eventually("the NodePort", func() error {
		return w.try("curl", "-sSf", "-m", "5", fmt.Sprintf("http://%s:30080/", w.node.IP))
	})
}

func (w *world) example(name string) string {
	path, err := filepath.Abs("../../examples/hello/" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	return path
}

// remove does what the head of deploy/daemonset.yaml says.
func (w *world) remove() {
	w.must("kubectl", "-n", "kube-system", "delete", "daemonset", "nodelet", "--wait")
	w.eventually("the pod's end", func() error {
		out, err := w.output("kubectl", "-n", "kube-system", "get", "pods", "-l", "app=nodelet", "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("still there: %s", out)
		}
		return err
	})
	// Rules and addresses stay until then: an update must not interrupt anybody.
	if !strings.Contains(w.shell("nft list tables"), "nodelet-proxy") {
		w.t.Error("the rules went with the pod")
	}
	w.must("nodelet", "reset", "--yes")
	w.must("nodelet", "reset", "--verify")
}

// undisturbed: what the foreign kubelet runs and keeps is still there.
func (w *world) undisturbed() {
	out := w.must("kubectl", "get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}")
	if strings.TrimSpace(out) != "0 0" {
		w.t.Errorf("restart counts of the pods that stay: %q", out)
	}
	// Seen from inside: token volumes are mounts of the node's own.
	volumes := strings.Fields(w.shell("ls -d /var/lib/kubelet/pods/*/volumes/*/*/token"))
	logs := strings.Fields(w.shell("ls /var/log/pods/default_hello-*/hello/*.log"))
	if len(volumes) < 2 || len(logs) < 2 {
		w.t.Errorf("of the foreign kubelet's two pods there are volumes %v and logs %v", volumes, logs)
	}
}

// command names a program of ours, kubectl with its credentials, or one of the node's.
func (w *world) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	switch name {
	case "kubectl":
		name, args = filepath.Join(w.bin, "nodelet-controlplane"), append([]string{"kubectl", "--kubeconfig", filepath.Join(w.cp(), "admin.kubeconfig")}, args...)
	case "nodelet", "nodelet-controlplane":
		name = filepath.Join(w.bin, name)
	}
	return w.node.Command(ctx, name, args...)
}

func (w *world) output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience+time.Minute)
	defer cancel()
	out, err := w.command(ctx, name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (w *world) try(name string, args ...string) error {
	_, err := w.output(name, args...)
	return err
}

func (w *world) must(name string, args ...string) string {
	w.t.Helper()
	out, err := w.output(name, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// shell runs a line whose status does not matter.
func (w *world) shell(line string) string {
	out, _ := w.output("sh", "-c", line)
	return out
}

func (w *world) eventually(what string, ask func() error) {
	w.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	w.t.Fatalf("%s: not within %s: %v", what, patience, err)
}

func (w *world) file(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.work, name), []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) dump() {
	for _, args := range [][]string{
		{"kubectl", "get", "pods", "-A", "-o", "wide"}, {"kubectl", "describe", "pods", "-A"},
		{"kubectl", "-n", "kube-system", "logs", "daemonset/nodelet", "--tail=60"}, {"sh", "-c", "tail -n 40 " + w.work + "/*.log"},
	} {
		out, err := w.output(args[0], args[1:]...)
		w.t.Logf("%v (%v)\n%s", args, err, out)
	}
}
