package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
)

// machine is a directory with a containerd in it.
type machine struct {
	t      testing.TB
	dir    string
	config Config
	cgroup string
	cmd    *exec.Cmd
	log    *os.File
	cri    *cri.Client
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	if raceDetector {
		t.Skip("containerd does not run under the race detector with this Go")
	}
	if _, err := exec.LookPath("runc"); err != nil {
		t.Skip("runc is not installed")
	}
	t.Setenv(shimEnv, buildShim(t))
	dir := t.TempDir()
	m := &machine{t: t, dir: dir, config: testConfig(dir), cgroup: fmt.Sprintf("/nodelet-test-%d", os.Getpid())}
	t.Setenv(childEnv, dir)
	m.writeCNI()
	m.mountState()
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

// buildShim takes the shim that the environment names, or from bin/, or builds it.
func buildShim(t testing.TB) string {
	t.Helper()
	if shim := os.Getenv(shimEnv); shim != "" {
		return shim
	}
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
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
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

// mountState mounts a tmpfs for the state directory, as /run is one.
func (m *machine) mountState() {
	m.t.Helper()
	if err := os.MkdirAll(m.config.State, 0o711); err != nil {
		m.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", m.config.State, "tmpfs", 0, "mode=0711"); err != nil {
		m.t.Fatal(err)
	}
}

// reboot does to a containerd that does not run any more what a reboot does.
func (m *machine) reboot() {
	m.t.Helper()
	if err := killAll(m.t.Context(), m.config.Socket(), m.config.containers()); err != nil {
		m.t.Fatal(err)
	}
	if err := removeTree(m.config.State); err != nil {
		m.t.Fatal(err)
	}
	m.mountState()
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
		Linux: &runtimev1.LinuxPodSandboxConfig{
			CgroupParent: m.cgroup,
			SecurityContext: &runtimev1.LinuxSandboxSecurityContext{Seccomp: &runtimev1.SecurityProfile{
				ProfileType: runtimev1.SecurityProfile_Localhost, LocalhostRef: m.config.sandboxSeccomp(),
			}},
		},
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

// runContainer runs a command in a pid namespace of its own.
func (m *machine) runContainer(sandbox, pod, name string, command ...string) string {
	m.t.Helper()
	return m.runContainerIn(runtimev1.NamespaceMode_CONTAINER, sandbox, pod, name, command...)
}

func (m *machine) runContainerIn(pid runtimev1.NamespaceMode, sandbox, pod, name string, command ...string) string {
	m.t.Helper()
	id, err := m.tryContainer(sandbox, pod, &runtimev1.ContainerConfig{
		Metadata: &runtimev1.ContainerMetadata{Name: name},
		Image:    &runtimev1.ImageSpec{Image: busyboxImage},
		Command:  command,
		LogPath:  name + ".log",
		Linux: &runtimev1.LinuxContainerConfig{SecurityContext: &runtimev1.LinuxContainerSecurityContext{
			NamespaceOptions: &runtimev1.NamespaceOption{Pid: pid},
		}},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return id
}

func (m *machine) tryContainer(sandbox, pod string, config *runtimev1.ContainerConfig) (string, error) {
	created, err := m.cri.CreateContainer(m.t.Context(), &runtimev1.CreateContainerRequest{
		PodSandboxId: sandbox, SandboxConfig: m.sandboxConfig(pod), Config: config,
	})
	if err != nil {
		return "", err
	}
	_, err = m.cri.StartContainer(m.t.Context(), &runtimev1.StartContainerRequest{ContainerId: created.GetContainerId()})
	return created.GetContainerId(), err
}

// tryPod runs a pod of one sleeping container.
func (m *machine) tryPod(name string) (container string, err error) {
	sandbox, err := m.cri.RunPodSandbox(m.t.Context(), &runtimev1.RunPodSandboxRequest{Config: m.sandboxConfig(name)})
	if err != nil {
		return "", err
	}
	return m.tryContainer(sandbox.GetPodSandboxId(), name, &runtimev1.ContainerConfig{
		Metadata: &runtimev1.ContainerMetadata{Name: "app"},
		Image:    &runtimev1.ImageSpec{Image: busyboxImage},
		Command:  []string{"sleep", "1000"},
		LogPath:  name + ".log",
		Linux:    &runtimev1.LinuxContainerConfig{},
	})
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

func (m *machine) buildBusybox() string {
	m.t.Helper()
	build := exec.Command("go", "run", "../../test/images", "-out", m.dir, "busybox")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(m.dir, "busybox.tar")
}

func (m *machine) importBusybox() {
	m.t.Helper()
	archive, err := os.Open(m.buildBusybox())
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
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
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

func processesOf(t testing.TB, id string) []int {
	t.Helper()
	inside, _ := processes("", map[string]bool{id: true})
	if len(inside) == 0 {
		t.Fatalf("container %s has no process", id)
	}
	return inside
}
