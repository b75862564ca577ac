package embedded

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestReset: everything of one containerd goes, and nothing of another.
func TestReset(t *testing.T) {
	other := newMachine(t)
	other.start()
	other.importBusybox()
	kept := other.runContainer(other.runSandbox("kept"), "kept", "app", "sleep", "1000")

	m := newMachine(t)
	m.start()
	m.importBusybox()
	id := m.runContainer(m.runSandbox("web"), "web", "app", "sleep", "1000")
	for i := range 5 {
		m.runSandbox("other-" + strconv.Itoa(i))
	}
	m.signal(syscall.SIGKILL)
	if err := Reset(t.Context(), m.config.Root, m.config.State); err != nil {
		t.Fatal(err)
	}
	inside, shims := processes(m.config.Socket(), map[string]bool{id: true})
	if len(inside)+len(shims) > 0 {
		t.Errorf("still running: %v, shims %v", inside, shims)
	}
	for _, dir := range []string{m.config.Root, m.config.State, m.config.shimSockets()} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", dir, err)
		}
		if mounts, err := mountsBelow(dir); err != nil || len(mounts) > 0 {
			t.Errorf("still mounted: %q, %v", mounts, err)
		}
	}
	if left := cgroupsNamed(id); len(left) > 0 {
		t.Errorf("cgroups left: %q", left)
	}
	if got := other.exec(kept, "echo", "alive"); got != "alive" {
		t.Errorf("the neighbour's container says %q", got)
	}
	if err := Reset(t.Context(), m.config.Root, m.config.State); err != nil {
		t.Errorf("a second reset: %v", err)
	}
}

// TestShimOfAnotherPIDNamespace: a lab's node, or a container, may have the same paths as the machine around it.
func TestShimOfAnotherPIDNamespace(t *testing.T) {
	const socket = "/run/x/containerd.sock"
	for name, flags := range map[string]uintptr{"ours": 0, "another": syscall.CLONE_NEWPID} {
		cmd := exec.Command("sh")
		cmd.Args = []string{"/bin/" + shimName, "-c", "echo up; read line", "-address", socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
		if _, err := cmd.StdinPipe(); err != nil { // it ends when nobody can write any more
			t.Fatal(err)
		}
		says, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(says, make([]byte, 3)); err != nil { // before, its arguments may be empty
			t.Fatal(err)
		}
		got := isShim(cmd.Process.Pid, socket)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if want := name == "ours"; got != want {
			t.Errorf("in %s pid namespace: taken for a shim of ours: %t", name, got)
		}
	}
}

// TestResetWithoutRecords: somebody emptied the run directory while the containers ran.
func TestResetWithoutRecords(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.importBusybox()
	id := m.runContainer(m.runSandbox("web"), "web", "app", "sleep", "1000")
	before := processesOf(t, id)
	m.signal(syscall.SIGKILL)
	if err := removeTree(m.config.State); err != nil {
		t.Fatal(err)
	}
	if err := Reset(t.Context(), m.config.Root, m.config.State); err != nil {
		t.Fatal(err)
	}
	for _, pid := range before {
		if _, alive := statOf(pid); alive {
			t.Errorf("process %d of the container is still there", pid)
		}
	}
}

func cgroupsNamed(id string) []string {
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.Contains(entry.Name(), id) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

func TestResetRefusesNonsense(t *testing.T) {
	for _, dir := range []string{"", "relative", "/", "/."} {
		if err := Reset(t.Context(), dir, t.TempDir()); err == nil {
			t.Errorf("reset of %q succeeded", dir)
		}
	}
}

// TestReboot: processes, mounts and the state directory are gone, the root is not.
func TestReboot(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.importBusybox()
	sandbox := m.runSandbox("web")
	id := m.runContainer(sandbox, "web", "app", "sleep", "1000")
	m.signal(syscall.SIGTERM)
	m.reboot()
	m.start()
	if got := m.container(id).GetState(); got != runtimev1.ContainerState_CONTAINER_EXITED {
		t.Errorf("the container is %s", got)
	}
	status, err := m.cri.PodSandboxStatus(t.Context(), &runtimev1.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil || status.GetStatus().GetState() != runtimev1.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("the sandbox: %v, %v", status, err)
	}
	if _, err := m.cri.RemovePodSandbox(t.Context(), &runtimev1.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Errorf("remove what the reboot left: %v", err)
	}
	m.runContainer(m.runSandbox("web"), "web", "app", "sleep", "1000")
}

func TestUnescape(t *testing.T) {
	if got := unescape(`/a\040b\011c\134d\012`); got != "/a b\tc\\d\n" {
		t.Errorf("got %q", got)
	}
}
