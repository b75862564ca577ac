package systemd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	programs = "/usr/local/lib/nodelet/"
	address  = "10.77.0.1"
	dropIn   = "/etc/systemd/system/nodelet.service.d/allinone.conf"
)

// patience is for one step: everything is ten times slower here, more on a busy host.
const patience = 15 * time.Minute

// TestService takes a machine through the life of nodelet.service. The steps
// build on one another: after a failure the rest says nothing.
func TestService(t *testing.T) {
	if line, _ := os.ReadFile("/proc/cmdline"); !strings.Contains(string(line), "nodelet.vm") {
		t.Skip("needs a machine of its own with systemd: make test-vm RUN=systemd")
	}
	uplink(t)
	for _, s := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"AllInOne", allInOne}, {"Pods", pods}, {"Cgroups", cgroups}, {"Restart", restart}, {"Killed", killed},
		{"StopLeavesPods", stopLeavesPods}, {"NodeForm", nodeForm}, {"Reset", reset},
	} {
		if !t.Run(s.name, s.run) {
			for _, c := range []string{
				"systemctl status --no-pager -l nodelet", "journalctl --no-pager -n 150 -u nodelet", "tail -n 40 /var/lib/nodelet/log/controlplane.log",
				"systemd-cgls --no-pager -l", "ip addr", "ps -eo pid,ppid,cgroup,args",
			} {
				out, err := exec.Command("sh", "-c", c).CombinedOutput()
				t.Logf("%s (%v)\n%s", c, err, out)
			}
			return
		}
	}
}

// uplink gives the machine an address and a default route: it has no network card.
func uplink(t *testing.T) {
	if _, err := os.Stat("/sys/class/net/uplink"); err == nil {
		return // of the test before
	}
	for _, c := range []string{
		"ip link add uplink type dummy", "ip addr add " + address + "/24 dev uplink", "ip link set uplink up",
		"ip route add default via 10.77.0.254",
	} {
		run(t, strings.Fields(c)...)
	}
}

func allInOne(t *testing.T) {
	copyFile(t, "/vm/allinone.conf", dropIn)
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "start", "nodelet") // returns when the daemon said READY=1
	got := properties(t, "ActiveState", "Type", "KillMode", "Delegate", "WatchdogUSec", "OOMScoreAdjust", "TasksMax", "Restart")
	for key, want := range map[string]string{
		"ActiveState": "active", "Type": "notify", "KillMode": "process", "Delegate": "yes", "WatchdogUSec": "30s",
		"OOMScoreAdjust": "-999", "TasksMax": "infinity", "Restart": "always",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	ready(t)
}

// ready waits until the node is.
func ready(t *testing.T) {
	t.Helper()
	eventually(t, "node Ready", func() error {
		_, err := try("kubectl wait node --all --for=condition=Ready --timeout=60s")
		return err
	})
}

func pods(t *testing.T) {
	for _, image := range []string{"hello.tar", "busybox.tar"} {
		nodelet(t, "images import /vm/images/"+image)
	}
	eventually(t, "the service account", func() error { _, err := try("kubectl get serviceaccount default"); return err })
	nodelet(t, "kubectl apply -f /vm/hello.yaml")
	nodelet(t, "kubectl rollout status deployment/hello --timeout="+patience.String())
	answers(t)
	nodelet(t, "kubectl apply -f /vm/client.yaml")
	nodelet(t, "kubectl wait --for=condition=complete job/hello-client --timeout="+patience.String())
}

// answers asks through the NodePort.
func answers(t *testing.T) {
	t.Helper()
	out := run(t, "curl", "-sS", "-m", "30", "http://"+address+":30080/")
	if !strings.Contains(out, "hello") {
		t.Errorf("the web servers say %q", out)
	}
}

// cgroups: version 2 only, limits in force, each process where it belongs.
func cgroups(t *testing.T) {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		t.Fatal(err)
	}
	if c := read(t, root+"/kubepods/cgroup.controllers"); !strings.Contains(c, "memory") || !strings.Contains(c, "cpu ") {
		t.Errorf("controllers of the pods: %s", c)
	}
	if len(containers(t)) != 2 {
		t.Errorf("processes of containers: %v", containers(t))
	}
	dirs, _ := filepath.Glob(root + "/kubepods/burstable/pod*/*/memory.max")
	limited := 0
	for _, d := range dirs {
		if strings.TrimSpace(read(t, d)) == fmt.Sprint(64<<20) {
			limited++
		}
	}
	if limited != 2 {
		t.Errorf("%d containers with a limit of 64 MiB in %v", limited, dirs)
	}
	main := properties(t, "MainPID")["MainPID"]
	if c := strings.TrimSpace(read(t, "/proc/"+main+"/cgroup")); !strings.HasPrefix(c, "0::/system.slice/nodelet.service") {
		t.Errorf("the daemon is in cgroup %s", c)
	}
	if score := strings.TrimSpace(read(t, "/proc/"+main+"/oom_score_adj")); score != "-999" {
		t.Errorf("the daemon's oom_score_adj is %s", score)
	}
	if score := strings.TrimSpace(read(t, "/proc/"+containers(t)[0]+"/oom_score_adj")); score == "-999" || score == "0" {
		t.Errorf("a burstable container's oom_score_adj is %s", score)
	}
}

// containers lists the processes of the web servers.
func containers(t *testing.T) []string {
	t.Helper()
	out, _ := exec.Command("pgrep", "-x", "hello").Output()
	pids := strings.Fields(string(out))
	slices.Sort(pids)
	return pids
}

// undisturbed runs f and fails when a container's process changed over it.
func undisturbed(t *testing.T, f func()) {
	t.Helper()
	before := containers(t)
	f()
	if after := containers(t); !slices.Equal(before, after) || len(after) != 2 {
		t.Errorf("processes of containers: before %v, after %v", before, after)
	}
}

func restart(t *testing.T) {
	undisturbed(t, func() {
		before := properties(t, "MainPID")["MainPID"]
		run(t, "systemctl", "restart", "nodelet")
		if now := properties(t, "MainPID")["MainPID"]; now == before {
			t.Errorf("still process %s", now)
		}
		ready(t)
		answers(t)
	})
	restarts := nodelet(t, "kubectl get pods -l app=hello -o jsonpath={.items[*].status.containerStatuses[*].restartCount}")
	if strings.TrimSpace(restarts) != "0 0" {
		t.Errorf("restart counts %q", restarts)
	}
}

// killed: systemd brings the daemon back.
func killed(t *testing.T) {
	undisturbed(t, func() {
		before := properties(t, "MainPID")["MainPID"]
		run(t, "systemctl", "kill", "--kill-whom=main", "-s", "KILL", "nodelet")
		eventually(t, "another daemon", func() error {
			p := properties(t, "MainPID", "ActiveState")
			if p["MainPID"] == before || p["ActiveState"] != "active" {
				return fmt.Errorf("%v", p)
			}
			return nil
		})
		ready(t)
		answers(t)
	})
}

func stopLeavesPods(t *testing.T) {
	undisturbed(t, func() {
		run(t, "systemctl", "stop", "nodelet")
		if p := properties(t, "ActiveState", "Result"); p["ActiveState"] != "inactive" || p["Result"] != "success" {
			t.Errorf("after stop: %v", p)
		}
		answers(t) // rules stay as well
	})
}

// nodeForm: the unit as it is delivered, against a control plane of its own.
func nodeForm(t *testing.T) {
	undisturbed(t, func() {
		if err := os.Remove(dropIn); err != nil {
			t.Fatal(err)
		}
		run(t, "systemd-run", "--unit=controlplane", "-p", "Type=exec", programs+"nodelet-controlplane", "serve",
			"--data-dir", "/var/lib/nodelet", "--node-name", "vm", "--advertise-address", address)
		if err := os.WriteFile("/etc/default/nodelet", []byte("NODELET_FLAGS=\"--kubeconfig /var/lib/nodelet/node.kubeconfig\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		run(t, "systemctl", "daemon-reload")
		run(t, "systemctl", "start", "nodelet")
		if args := read(t, "/proc/"+properties(t, "MainPID")["MainPID"]+"/cmdline"); !strings.Contains(args, "\x00node\x00") {
			t.Errorf("the daemon is %q", args)
		}
		ready(t)
		answers(t)
	})
}

func reset(t *testing.T) {
	const option = "favordynmods"
	if mounts := read(t, "/proc/self/mountinfo"); !strings.Contains(mounts, option) || !strings.Contains(mounts, "nsdelegate") {
		t.Errorf("cgroup2 is not mounted with %s and what systemd wants:\n%s", option, mounts)
	}
	run(t, "systemctl", "stop", "nodelet", "controlplane")
	nodelet(t, "reset --yes")
	nodelet(t, "reset --verify")
	if left := containers(t); len(left) > 0 {
		t.Errorf("processes of containers: %v", left)
	}
	if mounts := read(t, "/proc/self/mountinfo"); strings.Contains(mounts, option) || !strings.Contains(mounts, "nsdelegate") {
		t.Errorf("cgroup2's options were not put back:\n%s", mounts)
	}
	if _, err := os.Stat("/sys/fs/cgroup/kubepods"); err == nil {
		t.Error("the pods' cgroup is left")
	}
	if out, _ := exec.Command("pgrep", "-fa", "containerd-shim|nodelet").Output(); strings.Contains(string(out), programs) {
		t.Errorf("processes: %s", out)
	}
}

// nodelet runs a command of the CLI that has to work.
func nodelet(t *testing.T, args string) string {
	t.Helper()
	out, err := try(args)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(args string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, programs+"nodelet", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("nodelet %s: %w\n%s", args, err, out)
	}
	return string(out), err
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v after %s\n%s", strings.Join(args, " "), err, time.Since(start), out)
	}
	return string(out)
}

// properties of the unit.
func properties(t *testing.T, names ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(run(t, "systemctl", "show", "nodelet", "-p", strings.Join(names, ","))) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		out[key] = value
	}
	return out
}

// eventually asks again until the answer is good.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Second) {
		if err = ask(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, patience, err)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte(read(t, from)), 0o644); err != nil {
		t.Fatal(err)
	}
}
