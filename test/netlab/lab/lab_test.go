package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"nodelet/internal/netns"
)

// upEnv makes the test binary make a bound lab and wait to be killed.
const upEnv = "NODELET_TEST_LAB_UP"

func TestMain(m *testing.M) {
	Hold()
	if id := os.Getenv(upEnv); id != "" {
		if _, err := Up(Options{ID: id, Nodes: 1, Bound: true}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("up")
		select {}
	}
	os.Exit(m.Run())
}

func makeLab(t *testing.T, nodes int) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	var missing []string
	for _, dir := range privateDirs() {
		if _, err := os.Stat(dir); err != nil {
			missing = append(missing, dir)
		}
	}
	id := fmt.Sprintf("t%d", os.Getpid())
	l, err := Up(Options{ID: id, Nodes: nodes, Bound: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Down(id); err != nil {
			t.Error(err)
		}
		gone(t, l)
		if _, err := os.Stat(stateRoot); err == nil {
			return // other labs run
		}
		for _, dir := range missing {
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s was made and is left", dir)
			}
		}
	})
	return l
}

// gone fails when anything of the lab is left.
func gone(t *testing.T, l *Lab) {
	t.Helper()
	for _, path := range []string{l.stateDir(), l.DataDir()} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if netns.Exists(l.wire()) {
		t.Error("the wire is left")
	}
	for _, n := range l.Nodes {
		if n.Running() {
			t.Errorf("the holder of %s is left", n.Name)
		}
		if dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + n.Cgroup); len(dirs) > 0 {
			t.Errorf("cgroups are left: %v", dirs)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), l.DataDir()) {
		t.Errorf("mounts are left: %v", err)
	}
}

func run(t *testing.T, n *Node, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := n.Run(ctx, "sh", "-c", command)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// TestTheEndOfALabLeavesOthersAlone: nodes of all labs mount over the same directories of the host.
func TestTheEndOfALabLeavesOthersAlone(t *testing.T) {
	l := makeLab(t, 1)
	other := fmt.Sprintf("o%d", os.Getpid())
	if _, err := Up(Options{ID: other, Nodes: 1, Bound: true}); err != nil {
		t.Fatal(err)
	}
	run(t, &l.Nodes[0], "echo data >/var/lib/nodelet/file")
	if err := Down(other); err != nil {
		t.Fatal(err)
	}
	if got := run(t, &l.Nodes[0], "cat /var/lib/nodelet/file"); got != "data" {
		t.Errorf("read %q", got)
	}
	// Nor does the end of the one that made the directories.
	second, err := Up(Options{ID: other, Nodes: 1, Bound: true})
	if err != nil {
		t.Fatal(err)
	}
	run(t, &second.Nodes[0], "echo data >/var/lib/nodelet/file")
	if err := Down(l.ID); err != nil {
		t.Fatal(err)
	}
	if got := run(t, &second.Nodes[0], "cat /var/lib/nodelet/file"); got != "data" {
		t.Errorf("read %q", got)
	}
	if err := Down(other); err != nil {
		t.Fatal(err)
	}
}

func TestNodesAreMachines(t *testing.T) {
	l := makeLab(t, 2)
	one, two := &l.Nodes[0], &l.Nodes[1]
	for command, want := range map[string]string{
		"hostname":                        "node1",
		"ip -4 -o addr show eth0 | wc -l": "1",
		"ip -o link | wc -l":              "2",
		"ls /sys/class/net":               "eth0\nlo",
		"ls /run":                         "lock\nnetns",
		"ip route | grep -c ^default":     "1",
		"readlink /proc/self >/dev/null && cat /proc/1/comm | wc -l":    "1",
		"grep -q ' / / .* shared:' /proc/self/mountinfo && echo shared": "shared",
	} {
		if got := run(t, one, command); got != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
	if run(t, one, "ls /sys/fs/cgroup | wc -l") == "0" {
		t.Error("the node has no cgroups")
	}
	run(t, one, "touch /var/lib/kubelet/mine /run/mine")
	if run(t, two, "ls /var/lib/kubelet; ls /run/mine 2>/dev/null | wc -l") != "0" {
		t.Error("nodes share directories")
	}
	if _, err := os.Stat("/var/lib/kubelet/mine"); err == nil {
		t.Error("a node writes to the host's directory")
	}
	if got, err := os.Stat(filepath.Join(one.Dir, "root/var/lib/kubelet/mine")); err != nil {
		t.Errorf("the node's directory is not where the host looks for it: %v %v", got, err)
	}
	// They reach one another: a neighbour answers ARP.
	run(t, one, fmt.Sprintf("bash -c 'echo > /dev/udp/%s/9'; for i in $(seq 50); do ip neigh show %s | grep -q lladdr && exit 0; sleep 0.1; done; exit 1", two.IP, two.IP))
}

// TestOrphansAreReaped: process 1 of a node waits for what others leave to it.
func TestOrphansAreReaped(t *testing.T) {
	l := makeLab(t, 1)
	n := &l.Nodes[0]
	run(t, n, "for i in 1 2 3; do (sleep 0.1 &) ; done")
	run(t, n, "for i in $(seq 50); do grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | grep -q . || exit 0; sleep 0.1; done; exit 1")
}

func TestDownEndsEverything(t *testing.T) {
	l := makeLab(t, 1)
	n := &l.Nodes[0]
	for _, top := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(top, "cgroup.procs")); err == nil {
			run(t, n, fmt.Sprintf("mkdir -p %s%s/kubepods/pod1 && setsid --fork sh -c 'echo $$ > %s%s/kubepods/pod1/cgroup.procs; exec sleep 1000' >/dev/null 2>&1", top, n.Cgroup, top, n.Cgroup))
			break
		}
	}
	opened, err := Open(l.ID)
	if err != nil || len(opened.Nodes) != 1 {
		t.Fatalf("open: %v %v", opened, err)
	}
	// The clean-up of makeLab does the rest.
}

// TestMakerIsKilled: a bound lab's processes end with their maker, and Down
// finds the rest by the state file.
func TestMakerIsKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	id := fmt.Sprintf("k%d", os.Getpid())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), upEnv+"="+id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	l, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(10 * time.Second); l.Nodes[0].Running(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the holder outlived its maker")
		}
	}
	for range 2 {
		if err := Down(id); err != nil {
			t.Fatal(err)
		}
	}
	gone(t, l)
}

func TestBadOptions(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	for _, o := range []Options{{ID: "x", Nodes: 0}, {ID: "x", Nodes: 1000}, {ID: "../x", Nodes: 1}, {ID: "", Nodes: 1}} {
		if _, err := Up(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	if _, err := Open("no-such-lab"); err == nil {
		t.Error("a lab that is not there was opened")
	}
}

// TestBoundSurvivesGarbageCollection: what ties a lab to its maker is held open though nothing refers to it.
func TestBoundSurvivesGarbageCollection(t *testing.T) {
	l := makeLab(t, 1)
	for range 3 {
		runtime.GC()
	}
	if out, err := l.Nodes[0].Run(t.Context(), "sleep", "0.5"); err != nil || !l.Nodes[0].Running() {
		t.Fatalf("the node has ended by itself: %v %s", err, out)
	}
}
