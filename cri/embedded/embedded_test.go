package embedded

import (
	"context"
	"encoding/json"
	"errors"
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

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
	"nodelet/internal/mounttest"
)

// The tests run containerd in children of the test binary, since a process can start it once. Most
// talk to it over its socket; scenarios run inside the child, on the in-process client.

const (
	childEnv    = "NODELET_TEST_CONTAINERD" // directory of the child's containerd
	scenarioEnv = "NODELET_TEST_SCENARIO"   // what the child does; empty: serve until SIGTERM
	shimEnv     = "NODELET_TEST_SHIM"
	snapEnv     = "NODELET_TEST_SNAPSHOTTER"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := runChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// libcni keeps results of sandboxes in /var/lib/cni, for which containerd has no option; those of
	// sandboxes that a test kills would stay.
	os.Exit(mounttest.Main(m, "/var/lib"))
}

func testConfig(dir string) Config {
	return Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"),
		CNIConfDir: filepath.Join(dir, "net.d"), CNIBinDirs: []string{filepath.Join(dir, "bin")},
		Shim: os.Getenv(shimEnv), Snapshotter: os.Getenv(snapEnv),
		RegistryDirs: filepath.Join(dir, "certs.d"),
	}
}

func runChild(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	server, err := Start(ctx, testConfig(dir), Deps{Log: log})
	if err != nil {
		return err
	}
	switch os.Getenv(scenarioEnv) {
	case "in-process":
		defer server.Stop()
		return inProcessScenario(ctx, server, dir)
	default:
		return server.Run(ctx)
	}
}

// inProcessScenario takes the client without a socket through what differs from the one with.
func inProcessScenario(ctx context.Context, server *Server, dir string) error {
	client := server.Runtime()
	archive, err := os.Open(filepath.Join(dir, "busybox.tar"))
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }()
	names, err := server.ImportImages(ctx, archive)
	if err != nil || len(names) != 1 {
		return fmt.Errorf("imported %q: %w", names, err)
	}
	if _, err := client.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: "none"}); !errors.Is(err, cri.ErrNotFound) {
		return fmt.Errorf("status of an unknown sandbox: %w, want ErrNotFound", err)
	}
	pause, err := client.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: PauseImage}})
	if err != nil || !pause.GetImage().GetPinned() {
		return fmt.Errorf("pause image %v is not pinned: %w", pause, err)
	}
	seen := make(chan string, 100)
	eventsCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- client.Events(eventsCtx, func(e *runtimev1.ContainerEventResponse) { seen <- e.GetContainerId() })
	}()
	request := &runtimev1.RunPodSandboxRequest{Config: &runtimev1.PodSandboxConfig{
		Metadata: &runtimev1.PodSandboxMetadata{Name: "direct", Namespace: "default", Uid: "uid"},
		Linux:    &runtimev1.LinuxPodSandboxConfig{CgroupParent: os.Getenv("NODELET_TEST_CGROUP")},
	}}
	sandbox, err := client.RunPodSandbox(ctx, request)
	if err != nil {
		return err
	}
	_, err = client.RunPodSandbox(ctx, request)
	if holder, reserved := cri.NameReserved(err); !reserved || holder != sandbox.GetPodSandboxId() {
		return fmt.Errorf("the same sandbox again: %w; want a reserved name, held by %s", err, sandbox.GetPodSandboxId())
	}
	if id := <-seen; id != sandbox.GetPodSandboxId() {
		return fmt.Errorf("event of %s", id)
	}
	cancel()
	if err := <-ended; err != nil {
		return fmt.Errorf("events ended: %w", err)
	}
	if err := exitsScenario(ctx, server, sandbox.GetPodSandboxId(), request.GetConfig(), names[0]); err != nil {
		return err
	}
	config, err := client.RuntimeConfig(ctx, &runtimev1.RuntimeConfigRequest{})
	if err != nil || config.GetLinux().GetCgroupDriver() != runtimev1.CgroupDriver_CGROUPFS {
		return fmt.Errorf("runtime config %v: %w", config, err)
	}
	_, err = client.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: sandbox.GetPodSandboxId()})
	return err
}

// exitsScenario: the end of a container is told, with what CRI says of it in the end, and that of a command in it is not.
func exitsScenario(ctx context.Context, server *Server, sandbox string, config *runtimev1.PodSandboxConfig, image string) error {
	client := server.Runtime()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	exits, ended := make(chan cri.Exit, 10), make(chan error, 1)
	go func() { ended <- server.Exits(ctx, func(e cri.Exit) { exits <- e }) }()
	made, err := client.CreateContainer(ctx, &runtimev1.CreateContainerRequest{
		PodSandboxId: sandbox, SandboxConfig: config, Config: &runtimev1.ContainerConfig{
			Metadata: &runtimev1.ContainerMetadata{Name: "c"}, Image: &runtimev1.ImageSpec{Image: image}, Command: []string{"sleep", "1000"},
		},
	})
	if err != nil {
		return err
	}
	id := made.GetContainerId()
	if _, err := client.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: id}); err != nil {
		return err
	}
	if _, err := client.ExecSync(ctx, &runtimev1.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}}); err != nil {
		return err
	}
	if _, err := client.StopContainer(ctx, &runtimev1.StopContainerRequest{ContainerId: id}); err != nil {
		return err
	}
	status, err := client.ContainerStatus(ctx, &runtimev1.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return err
	}
	want := cri.Exit{ContainerID: id, Code: 137, At: time.Unix(0, status.GetStatus().GetFinishedAt())}
	select {
	case got := <-exits:
		if got.ContainerID != want.ContainerID || got.Code != want.Code || !got.At.Equal(want.At) {
			return fmt.Errorf("told of the exit %+v, want %+v", got, want)
		}
	case <-ctx.Done():
		return errors.New("the exit is not told")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		return fmt.Errorf("exits ended: %w", err)
	}
	return nil
}

func TestInProcess(t *testing.T) {
	m := newMachine(t)
	m.buildBusybox()
	t.Setenv(scenarioEnv, "in-process")
	t.Setenv("NODELET_TEST_CGROUP", m.cgroup)
	if out, err := exec.Command("/proc/self/exe").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
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
// TestSandboxSeccomp: a filter is on the sandbox's process, and the profile is the default one but for its
// architectures.
func TestSandboxSeccomp(t *testing.T) {
	m := newMachine(t)
	m.start()
	for _, pid := range processesOf(t, m.runSandbox("web")) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(string(status), "\nSeccomp:\t2\n") {
			t.Errorf("process %d of the sandbox has no seccomp filter (%v):\n%s", pid, err, status)
		}
	}
	var profile specs.LinuxSeccomp
	content, err := os.ReadFile(m.config.sandboxSeccomp())
	if err == nil {
		err = json.Unmarshal(content, &profile)
	}
	if err != nil || profile.DefaultAction != specs.ActErrno || len(profile.Syscalls) == 0 || len(profile.Architectures) != 0 {
		t.Errorf("profile %+v, %v", profile, err)
	}
}

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

// TestManyAtOnce starts pods side by side, kills the daemon in the middle of it, and wants every pod
// that was reported as running to run, and everything to be removable.
func TestManyAtOnce(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.importBusybox()
	const pods = 10
	type result struct {
		id  string
		err error
	}
	results := make(chan result, pods)
	for i := range pods {
		go func() {
			id, err := m.tryPod(fmt.Sprint("pod-", i))
			results <- result{id, err}
		}()
	}
	var running []string
	for n := range pods {
		const beforeTheKill = 3
		if n == beforeTheKill {
			m.signal(syscall.SIGKILL)
		}
		r := <-results
		if r.err == nil {
			running = append(running, r.id)
		} else if n < beforeTheKill {
			t.Fatal(r.err)
		}
	}
	m.start()
	for _, id := range running {
		if got := m.container(id).GetState(); got != runtimev1.ContainerState_CONTAINER_RUNNING {
			t.Errorf("container %.8s was reported as running and is %s", id, got)
		}
	}
	sandboxes, err := m.cri.ListPodSandbox(t.Context(), &runtimev1.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, sandbox := range sandboxes.GetItems() {
		if _, err := m.cri.RemovePodSandbox(t.Context(), &runtimev1.RemovePodSandboxRequest{PodSandboxId: sandbox.GetId()}); err != nil {
			t.Errorf("remove %s: %v", sandbox.GetMetadata().GetName(), err)
		}
	}
	for _, pattern := range []string{"io.containerd.grpc.v1.cri/netns/*", "io.containerd.runtime.v2.task/k8s.io/*", "runc/k8s.io/*"} {
		if left, _ := filepath.Glob(filepath.Join(m.config.State, pattern)); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
	for i := range pods { // every name is free again, whatever was half made when the daemon died
		m.runSandbox(fmt.Sprint("pod-", i))
	}
}
