package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"nodelet/internal/netns"
)

// childEnv marks the process that runs inside the namespaces.
const childEnv = "NODELET_E2E_INSIDE"

// varLib is empty in there: libcni writes to /var/lib/cni, whatever directories a node is given.
const varLib = "/var/lib"

// nodeIP is the address of the machine inside the namespaces.
const nodeIP = "10.77.0.1"

// TestMain runs the tests in a child with namespaces of its own: everything
// network-like that a test leaves behind goes with the last process.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(lookupEnv) != "":
		lookup()
		return
	case os.Geteuid() != 0:
		os.Exit(m.Run()) // each test skips, and says why
	case os.Getenv(childEnv) == "":
		os.Exit(outside())
	}
	if err := inside(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: set up namespaces:", err)
		os.Exit(1)
	}
	os.Exit(max(m.Run(), left()))
}

// left is 1 when something is in the directory that only these tests write to.
func left() (code int) {
	err := filepath.WalkDir(varLib, func(path string, e os.DirEntry, err error) error {
		if path != varLib {
			fmt.Fprintln(os.Stderr, "e2e: left behind:", path)
			code = 1
		}
		return err
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: look for what is left:", err)
		return 1
	}
	return code
}

// outside runs this test binary again in new namespaces.
func outside() int {
	// The child must die with the thread that made it, so that an interrupted run leaves nothing.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: start in namespaces:", err)
		return 1
	}
	return 0
}

// inside gives the machine an uplink with an address and a default route, an empty /var/lib, and
// a mount tree that is shared within, as on a real machine, but not with the outside.
func inside() error {
	for _, flags := range []uintptr{unix.MS_REC | unix.MS_PRIVATE, unix.MS_REC | unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", flags, ""); err != nil {
			return fmt.Errorf("change propagation of /: %w", err)
		}
	}
	if err := unix.Mount("tmpfs", varLib, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("hide %s: %w", varLib, err)
	}
	if err := netns.Disinherit(); err != nil {
		return err
	}
	for _, c := range []string{
		"link set lo up",
		"link add uplink type veth peer name outside",
		"link set uplink up", "link set outside up",
		"addr add " + nodeIP + "/24 dev uplink",
		"route add default via 10.77.0.254 dev uplink",
	} {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, out)
		}
	}
	return nil
}

// needRoot skips tests that need the kernel.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: starts containers and programs the kernel")
	}
}

// bin is where `make build images` puts things.
func bin(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"nodelet", "nodelet-cni", "nodelet-controlplane", "containerd-shim-runc-v2", "images/hello.tar"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Fatalf("bin/%s is missing: run make build images first", f)
		}
	}
	return dir
}

// place is a nodelet of its own: directories, cgroup and name.
type place struct {
	bin, data, run, cgroup, name string
}

func newPlace(t testing.TB) *place {
	t.Helper()
	// Not t.TempDir: its long names would overflow the limit of unix socket paths.
	dir, err := os.MkdirTemp("", "nl") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	p := &place{bin: bin(t), data: filepath.Join(dir, "data"), run: filepath.Join(dir, "run"), name: "node-1"}
	p.cgroup = "/nodelet-e2e-" + filepath.Base(dir)
	t.Cleanup(func() {
		if t.Failed() {
			p.dump(t)
		}
		out, err := p.command("reset", "--yes").CombinedOutput()
		if err != nil {
			t.Errorf("reset: %v\n%s", err, out)
		}
		if out, err := p.command("reset", "--verify").CombinedOutput(); err != nil {
			t.Errorf("something is left behind: %v\n%s", err, out)
		}
		removeCgroup(t, p.cgroup)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

// removeCgroup removes the empty root that the pods' cgroups were made below.
func removeCgroup(t testing.TB, name string) {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + name)
	for _, d := range append(dirs, "/sys/fs/cgroup"+name) {
		if err := os.Remove(d); err != nil && !os.IsNotExist(err) {
			t.Errorf("cgroup is left behind: %v", err)
		}
	}
}

// flags of commands that start something, and of those that only need the place.
func (p *place) places() []string { return []string{"--data-dir", p.data, "--run-dir", p.run} }

func (p *place) upFlags() []string {
	// Whether the disk of the machine is full is not what is tested.
	return append(p.places(), "--hostname-override", p.name, "--cgroup-root", p.cgroup, "--eviction-hard=")
}

func (p *place) command(args ...string) *exec.Cmd {
	if args[0] == "kubectl" {
		args = append([]string{"kubectl", "--data-dir", p.data}, args[1:]...)
	} else {
		args = append(args, p.places()...)
	}
	return exec.Command(filepath.Join(p.bin, "nodelet"), args...)
}

// dump shows what a failed test leaves: logs, pods, rules.
func (p *place) dump(t testing.TB) {
	for _, log := range []string{"nodelet.log", "controlplane.log"} {
		data, _ := os.ReadFile(filepath.Join(p.data, "log", log))
		t.Logf("%s ends:\n%s", log, tail(string(data), 60))
	}
	for _, args := range [][]string{
		{"status"}, {"kubectl", "get", "nodes,pods,jobs,services,endpointslices", "-A", "-o", "wide"},
		{"kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp"},
	} {
		out, _ := p.command(args...).CombinedOutput()
		t.Logf("nodelet %s:\n%s", strings.Join(args, " "), tail(string(out), 60))
	}
	for _, c := range []string{"ip -d addr", "ip route", "nft list ruleset", "conntrack -L"} {
		f := strings.Fields(c)
		out, _ := exec.Command(f[0], f[1:]...).CombinedOutput()
		t.Logf("%s:\n%s", c, tail(string(out), 100))
	}
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// TestScripts runs each script of testdata in a place of its own.
func TestScripts(t *testing.T) {
	needRoot(t)
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".txtar")
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			testscript.Run(t, testscript.Params{
				Files: []string{f},
				Setup: func(e *testscript.Env) error {
					e.Setenv("PATH", p.bin+":"+os.Getenv("PATH"))
					e.Setenv("DATA", p.data)
					e.Setenv("RUN", p.run)
					e.Setenv("BIN", p.bin)
					e.Setenv("NODE", p.name)
					e.Setenv("NODE_IP", nodeIP)
					e.Setenv("KUBECONFIG", filepath.Join(p.data, "admin.kubeconfig"))
					repo, err := filepath.Abs("../..")
					e.Setenv("REPO", repo)
					self, _ := os.Executable() // fails on no Linux
					e.Setenv("SELF", self)
					e.Setenv("CGROUP", p.cgroup)
					return err
				},
			})
		})
	}
}
