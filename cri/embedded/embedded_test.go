package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
)

// The tests run containerd in children of the test binary, since a process can start it once, and
// talk to it over its socket.

const childEnv = "NODELET_TEST_CONTAINERD" // directory of the child's containerd

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := runChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func testConfig(dir string) Config {
	return Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"),
		CNIConfDir: filepath.Join(dir, "net.d"), CNIBinDirs: []string{filepath.Join(dir, "bin")},
		Shim: os.Getenv("NODELET_TEST_SHIM"),
	}
}

// runChild is the child: containerd until SIGTERM.
func runChild(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	server, err := Start(ctx, testConfig(dir), Deps{Log: log})
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

// machine is a directory with a containerd in it.
type machine struct {
	t      *testing.T
	dir    string
	config Config
	cgroup string
	cmd    *exec.Cmd
	log    *os.File
	cri    *cri.Client
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("runc is not installed")
	}
	t.Setenv("NODELET_TEST_SHIM", buildShim(t))
	dir := t.TempDir()
	m := &machine{t: t, dir: dir, config: testConfig(dir), cgroup: fmt.Sprintf("/nodelet-test-%d", os.Getpid())}
	t.Setenv(childEnv, dir)
	m.writeCNI()
	var err error
	if m.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	if m.cri, err = cri.Dial("unix://"+m.config.Socket(), cri.Deps{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.cleanup)
	return m
}

// buildShim takes the shim from bin/ or builds it.
func buildShim(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	shim := filepath.Join(root, "bin", "containerd-shim-runc-v2")
	if _, err := os.Stat(shim); err == nil {
		return shim
	}
	shim = filepath.Join(t.TempDir(), "containerd-shim-runc-v2")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-tags=no_grpc,osusergo,netgo", "-o", shim,
		"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the shim: %v\n%s", err, out)
	}
	return shim
}

// writeCNI makes a network whose plugin gives every pod the address 192.0.2.7 and no link.
func (m *machine) writeCNI() {
	m.write("net.d/10-test.conflist", `{"cniVersion":"1.0.0","name":"test","plugins":[{"type":"nolink"}]}`, 0o644)
	m.write("bin/nolink", `#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
ADD) echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"interface":0,"address":"192.0.2.7/32"}]}' ;;
esac
`, 0o755)
}

func (m *machine) write(name, content string, mode os.FileMode) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		m.t.Fatal(err)
	}
}

// start starts containerd and waits until it answers.
func (m *machine) start() {
	m.t.Helper()
	m.cmd = exec.Command("/proc/self/exe")
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	if err := m.cri.WaitReady(ctx); err != nil {
		m.t.Fatal(err)
	}
}

// signal ends containerd and waits for that.
func (m *machine) signal(signal syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(signal); err != nil {
		m.t.Fatal(err)
	}
	err := m.cmd.Wait()
	m.cmd = nil
	if signal == syscall.SIGTERM && err != nil {
		m.t.Errorf("containerd ended with %v", err)
	}
}

func (m *machine) cleanup() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
	}
	_ = m.cri.Close()
	if err := Reset(context.Background(), m.config.Root, m.config.State); err != nil {
		m.t.Errorf("reset: %v", err)
	}
	removeCgroups(m.cgroup)
	if m.t.Failed() {
		log, _ := os.ReadFile(m.log.Name())
		m.t.Logf("containerd's log:\n%s", log)
	}
	_ = m.log.Close()
}

// removeCgroups removes the test's cgroup from every hierarchy, children first.
func removeCgroups(name string) {
	var dirs []string
	for _, pattern := range []string{"/sys/fs/cgroup" + name, "/sys/fs/cgroup/*" + name} {
		roots, _ := filepath.Glob(pattern)
		for _, root := range roots {
			_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		_ = os.Remove(dirs[i])
	}
}

func (m *machine) sandboxConfig(name string) *runtimev1.PodSandboxConfig {
	return &runtimev1.PodSandboxConfig{
		Metadata:     &runtimev1.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		Hostname:     name,
		LogDirectory: filepath.Join(m.dir, "logs"),
		Linux:        &runtimev1.LinuxPodSandboxConfig{CgroupParent: m.cgroup},
	}
}

func (m *machine) runSandbox(name string) string {
	m.t.Helper()
	resp, err := m.cri.RunPodSandbox(m.t.Context(), &runtimev1.RunPodSandboxRequest{Config: m.sandboxConfig(name)})
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.GetPodSandboxId()
}

func (m *machine) runContainer(sandbox, pod, name string, command ...string) string {
	m.t.Helper()
	created, err := m.cri.CreateContainer(m.t.Context(), &runtimev1.CreateContainerRequest{
		PodSandboxId: sandbox, SandboxConfig: m.sandboxConfig(pod),
		Config: &runtimev1.ContainerConfig{
			Metadata: &runtimev1.ContainerMetadata{Name: name},
			Image:    &runtimev1.ImageSpec{Image: busyboxImage},
			Command:  command,
			LogPath:  name + ".log",
			Linux: &runtimev1.LinuxContainerConfig{SecurityContext: &runtimev1.LinuxContainerSecurityContext{
				NamespaceOptions: &runtimev1.NamespaceOption{Pid: runtimev1.NamespaceMode_CONTAINER},
			}},
		},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.cri.StartContainer(m.t.Context(), &runtimev1.StartContainerRequest{ContainerId: created.GetContainerId()}); err != nil {
		m.t.Fatal(err)
	}
	return created.GetContainerId()
}

func (m *machine) container(id string) *runtimev1.ContainerStatus {
	m.t.Helper()
	resp, err := m.cri.ContainerStatus(m.t.Context(), &runtimev1.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		m.t.Fatal(err)
	}
	return resp.GetStatus()
}

// exec runs a command in a container and returns what it printed.
func (m *machine) exec(id string, command ...string) string {
	m.t.Helper()
	resp, err := m.cri.ExecSync(m.t.Context(), &runtimev1.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: 10})
	if err != nil {
		m.t.Fatal(err)
	}
	if resp.GetExitCode() != 0 {
		m.t.Fatalf("%q exited with %d: %s%s", command, resp.GetExitCode(), resp.GetStdout(), resp.GetStderr())
	}
	return strings.TrimSpace(string(resp.GetStdout()))
}

const busyboxImage = "nodelet.local/busybox:1"

func (m *machine) importBusybox() {
	m.t.Helper()
	path := filepath.Join(m.dir, "busybox.tar")
	build := exec.Command("go", "run", "../../test/images", "-out", m.dir, "busybox")
	if out, err := build.CombinedOutput(); err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	archive, err := os.Open(path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer archive.Close()
	names, err := Import(m.t.Context(), "unix://"+m.config.Socket(), archive)
	if err != nil {
		m.t.Fatal(err)
	}
	if len(names) != 1 || names[0] != busyboxImage {
		m.t.Fatalf("imported %q", names)
	}
}

// await polls until ok; containers' own doings have no event to wait for here.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestLifecycle(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.importBusybox()

	events := make(chan *runtimev1.ContainerEventResponse, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = m.cri.Events(ctx, func(e *runtimev1.ContainerEventResponse) { events <- e })
	}()

	sandbox := m.runSandbox("web")
	status, err := m.cri.PodSandboxStatus(t.Context(), &runtimev1.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil || status.GetStatus().GetNetwork().GetIp() != "192.0.2.7" {
		t.Errorf("sandbox: %v, %v", status, err)
	}
	id := m.runContainer(sandbox, "web", "app", "sh", "-c", "echo started; exec sleep 1000")
	if got := m.exec(id, "hostname"); got != "web" {
		t.Errorf("hostname in the container: %q", got)
	}
	if got := m.exec(id, "sh", "-c", "ip link show lo | grep -o UP | head -1"); got != "UP" {
		t.Errorf("loopback is %q", got)
	}
	logFile := filepath.Join(m.dir, "logs", "app.log")
	await(t, "the container's log", func() bool {
		content, _ := os.ReadFile(logFile)
		return strings.HasSuffix(string(content), " stdout F started\n")
	})
	if _, err := m.cri.StopContainer(t.Context(), &runtimev1.StopContainerRequest{ContainerId: id, Timeout: 1}); err != nil {
		t.Error(err)
	}
	if got := m.container(id); got.GetState() != runtimev1.ContainerState_CONTAINER_EXITED || got.GetExitCode() != 137 {
		t.Errorf("stopped container: %v", got)
	}
	awaitEvent(t, events, id, runtimev1.ContainerEventType_CONTAINER_STOPPED_EVENT)
	if _, err := m.cri.RemovePodSandbox(t.Context(), &runtimev1.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Error(err)
	}
	awaitEvent(t, events, sandbox, runtimev1.ContainerEventType_CONTAINER_DELETED_EVENT)
	if left, _ := filepath.Glob(m.config.State + "/io.containerd.runtime.v2.task/k8s.io/*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if left, _ := filepath.Glob(m.config.State + "/io.containerd.grpc.v1.cri/netns/*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	m.signal(syscall.SIGTERM)
}

func awaitEvent(t *testing.T, events <-chan *runtimev1.ContainerEventResponse, id string, kind runtimev1.ContainerEventType) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e := <-events:
			if e.GetContainerId() == id && e.GetContainerEventType() == kind {
				return
			}
		case <-timeout:
			t.Fatalf("no event %s of %s", kind, id)
		}
	}
}

// TestAdoption: containers outlive kill -9 and SIGTERM of the daemon, and the next one has them.
func TestAdoption(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.importBusybox()
	sandbox := m.runSandbox("web")
	id := m.runContainer(sandbox, "web", "app", "sleep", "1000")
	before := m.container(id)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		m.signal(signal)
		m.start()
		after := m.container(id)
		if after.GetState() != runtimev1.ContainerState_CONTAINER_RUNNING || after.GetStartedAt() != before.GetStartedAt() {
			t.Fatalf("after %s: %v", signal, after)
		}
		if got := m.exec(id, "echo", "alive"); got != "alive" {
			t.Errorf("after %s: %q", signal, got)
		}
	}
	// It is really ours: stopping works, and an exit that nobody saw is found out.
	m.signal(syscall.SIGKILL)
	m.killInside(id)
	m.start()
	await(t, "the exit to be noticed", func() bool {
		return m.container(id).GetState() == runtimev1.ContainerState_CONTAINER_EXITED
	})
}

// killInside kills a container's process while no daemon runs.
func (m *machine) killInside(id string) {
	m.t.Helper()
	for _, p := range processesOf(m.t, id) {
		if err := syscall.Kill(p, syscall.SIGKILL); err != nil {
			m.t.Fatal(err)
		}
	}
}

func processesOf(t *testing.T, id string) []int {
	t.Helper()
	inside, _ := processes("", map[string]bool{id: true})
	if len(inside) == 0 {
		t.Fatalf("container %s has no process", id)
	}
	return inside
}
