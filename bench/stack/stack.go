package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"nodelet/bench/area"
	"nodelet/bench/lab"
)

const (
	// startLimit is far more than a start takes; after it something is wrong.
	startLimit = 3 * time.Minute
	// look is how often is looked for what nobody tells: the resolution of start times.
	look = 2 * time.Millisecond
	// socket is the external containerd's.
	socket = "/run/containerd/containerd.sock"
	// keys is where the node's credentials are; nodelet's own data directory.
	keys = "/var/lib/nodelet"
	// HelloImage is a small web server that ends at once when told.
	HelloImage = "nodelet.local/hello:1"
	// BusyboxImage has a shell.
	BusyboxImage = "nodelet.local/busybox:1"
)

// Stack is what runs on the node.
type Stack struct {
	Node *area.Node
	API  *API
	// processes are all that were started, in order.
	processes []*lab.Process
}

// New is an empty stack.
func New(n *area.Node) *Stack { return &Stack{Node: n} }

// RuntimeEndpoint is the external containerd's, as CRI clients want it.
func RuntimeEndpoint() string { return "unix://" + socket }

// Processes are those that run.
func (s *Stack) Processes() []*lab.Process { return s.processes }

// Stop ends everything, the last first.
func (s *Stack) Stop() {
	for len(s.processes) > 0 {
		p := s.processes[len(s.processes)-1]
		s.processes = s.processes[:len(s.processes)-1]
		p.Stop()
	}
}

// Logs is the end of what every process said.
func (s *Stack) Logs() string {
	var out string
	for _, p := range s.processes {
		text := p.Log()
		out += fmt.Sprintf("--- %s\n%s\n", p.Name, text[max(0, len(text)-1500):])
	}
	return out
}

func (s *Stack) start(name string, args ...string) (*lab.Process, error) {
	p, err := lab.Run(s.Node.Dir, name, args...)
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return p, err
}

// eventually asks until there is no error.
func (s *Stack) eventually(ctx context.Context, what string, ask func() error) error {
	var err error
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(look) {
		if err = ask(); err == nil {
			return nil
		}
		for _, p := range s.processes {
			if p.Ended() {
				return fmt.Errorf("wait for %s: %s has ended:\n%s", what, p.Name, p.Log())
			}
		}
	}
	return fmt.Errorf("wait for %s: %w", what, errors.Join(err, ctx.Err()))
}

// command runs a program to its end.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", filepath.Base(name), args, err, out)
	}
	return nil
}

// Admin is the kubeconfig of the administrator.
func (s *Stack) Admin() string { return filepath.Join(s.controlPlaneDir(), "admin.kubeconfig") }

func (s *Stack) controlPlaneDir() string { return filepath.Join(s.Node.Dir, "controlplane") }

// ControlPlane starts nodelet's and waits until it is ready.
func (s *Stack) ControlPlane(ctx context.Context) (*lab.Process, error) {
	p, err := s.start(filepath.Join(s.Node.Bin, "nodelet-controlplane"), "serve", "--data-dir", s.controlPlaneDir(),
		"--node-name", area.NodeName, "--advertise-address", area.NodeIP)
	if err != nil {
		return nil, err
	}
	return p, s.ready(ctx)
}

// ready waits for the API server.
func (s *Stack) ready(ctx context.Context) error {
	return s.eventually(ctx, "the API server", func() error {
		if s.API == nil {
			api, err := Dial(s.Admin())
			if err != nil {
				return err
			}
			s.API = api
		}
		return s.API.Do(ctx, http.MethodGet, "/readyz", nil, nil)
	})
}

// NodeKeys makes the node's credentials; the control plane need not run.
func (s *Stack) NodeKeys(ctx context.Context) error {
	return command(ctx, filepath.Join(s.Node.Bin, "nodelet-controlplane"), "node-kubeconfig", "--data-dir", s.controlPlaneDir(),
		"--node-name", area.NodeName, "--server", "https://"+area.NodeIP+":6443", "--node-ip", area.NodeIP, "--out-dir", keys)
}

// network is the distribution's usual network: a bridge, addresses from a file, host ports.
const network = `{"cniVersion":"0.4.0","name":"bench","plugins":[
 {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"hairpinMode":true,
  "ipam":{"type":"host-local","ranges":[[{"subnet":"10.244.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}`

// Containerd starts the distribution's, with its bridge plugin and our images.
func (s *Stack) Containerd(ctx context.Context) (*lab.Process, error) {
	config := filepath.Join(s.Node.Dir, "containerd.toml")
	text := fmt.Sprintf(`version = 2
root = "%s/containerd"
state = "/run/containerd"
[grpc]
  address = "%s"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "nodelet.local/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
`, s.Node.Dir, socket)
	if err := errors.Join(os.MkdirAll("/etc/cni/net.d", 0o755), os.WriteFile(config, []byte(text), 0o600),
		os.WriteFile("/etc/cni/net.d/10-bench.conflist", []byte(network), 0o644), s.Node.Shell("sysctl -q -w net.ipv4.ip_forward=1")); err != nil {
		return nil, fmt.Errorf("configure containerd: %w", err)
	}
	p, err := s.start("containerd", "--config", config)
	if err != nil {
		return nil, err
	}
	if err := s.eventually(ctx, "containerd", func() error { return command(ctx, "ctr", "version") }); err != nil {
		return nil, err
	}
	for _, image := range []string{"pause", "hello", "busybox"} {
		if err := command(ctx, "ctr", "-n", "k8s.io", "images", "import", filepath.Join(s.Node.Bin, "images", image+".tar")); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Cgroups makes the node's cgroup in every tree: the kubelet wants it there.
func (s *Stack) Cgroups() {
	for _, tree := range []string{"", "cpu", "memory", "pids", "cpuset", "cpuacct", "systemd", "hugetlb", "unified"} {
		_ = os.Mkdir(filepath.Join("/sys/fs/cgroup", tree, s.Node.Cgroup), 0o755) // where there is such a tree
	}
}

// Kubelet starts upstream's on the external containerd.
func (s *Stack) Kubelet(ctx context.Context) (*lab.Process, error) {
	config := filepath.Join(s.Node.Dir, "kubelet.yaml")
	text := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: %s
cgroupDriver: cgroupfs
cgroupRoot: %s
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
oomScoreAdj: 0
maxPods: 260
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
tlsCertFile: %[3]s/pki/kubelet-server.crt
tlsPrivateKeyFile: %[3]s/pki/kubelet-server.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[3]s/pki/kubelet-client-ca.crt}
authorization: {mode: Webhook}
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, imagefs.available: 1%%}
`, RuntimeEndpoint(), s.Node.Cgroup, keys)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configure the kubelet: %w", err)
	}
	s.Cgroups()
	p, err := s.start(filepath.Join(s.Node.Peers, "kubelet"), "--config", config, "--kubeconfig", filepath.Join(keys, "node.kubeconfig"),
		"--hostname-override", area.NodeName, "--node-ip", area.NodeIP, "--root-dir", "/var/lib/kubelet")
	if err != nil {
		return nil, err
	}
	return p, s.NodeReady(ctx)
}

// Nodelet starts the node daemon with these components and flags.
func (s *Stack) Nodelet(ctx context.Context, components string, flags ...string) (*lab.Process, error) {
	p, err := s.start(filepath.Join(s.Node.Bin, "nodelet"), append([]string{"node", "--components=" + components,
		"--hostname-override=" + area.NodeName, "--node-ip=" + area.NodeIP, "--cgroup-root=" + s.Node.Cgroup,
		"--max-pods=260", "--eviction-hard=", "--log-level=warn"}, flags...)...)
	if err != nil {
		return nil, err
	}
	return p, s.NodeReady(ctx)
}

// Import gives nodelet's embedded runtime the images.
func (s *Stack) Import(ctx context.Context) error {
	for _, image := range []string{"hello", "busybox"} {
		if err := command(ctx, filepath.Join(s.Node.Bin, "nodelet"), "images", "import", filepath.Join(s.Node.Bin, "images", image+".tar")); err != nil {
			return err
		}
	}
	return nil
}

// NodeReady waits until the API says so, and until pods can be made.
func (s *Stack) NodeReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := s.API.WatchNode(ctx, area.NodeName); err != nil {
		return fmt.Errorf("wait for the node: %w\n%s", err, s.Logs())
	}
	return s.Account(ctx)
}

// Account waits for the service account without which no pod is admitted.
func (s *Stack) Account(ctx context.Context) error {
	return s.API.WaitFor(ctx, "/api/v1/namespaces/default/serviceaccounts/default")
}
