package embedded

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri/embedded/pause"
)

func TestPauseSignals(t *testing.T) {
	program, err := pause.Program(runtime.GOARCH)
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	// Whoever runs the tests under nohup hands an ignored SIGHUP down; one that is caught is not handed down.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	for sig, killed := range map[syscall.Signal]bool{
		syscall.SIGTERM: false, syscall.SIGINT: false, // they end it in good order
		syscall.SIGHUP: true, syscall.SIGUSR1: true, // untouched: the kernel's default
	} {
		cmd := exec.Command(path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Sent before it blocks its signals, SIGTERM would kill it: wait until it sleeps.
		await(t, "pause to sleep", func() bool {
			content, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "stat"))
			return bytes.Contains(content, []byte(") S "))
		})
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); errors.As(err, &exit) != killed {
			t.Errorf("%s: %v", sig, err)
		}
	}
}

// TestPauseIsReproducible: the committed program is what its source gives.
func TestPauseIsReproducible(t *testing.T) {
	const compiler = "12.2.0" // Debian 12's; another one may choose other instructions
	for _, arch := range []struct{ name, cc string }{{"amd64", "x86_64-linux-gnu-gcc"}, {"arm64", "aarch64-linux-gnu-gcc"}} {
		t.Run(arch.name, func(t *testing.T) {
			version, err := exec.Command(arch.cc, "-dumpfullversion").Output()
			if err != nil || strings.TrimSpace(string(version)) != compiler {
				t.Skipf("%s %s is not here (%q, %v)", arch.cc, compiler, version, err)
			}
			dir := t.TempDir()
			if out, err := exec.Command("sh", "pause/src/build.sh", dir).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			built, err := os.ReadFile(filepath.Join(dir, "pause-"+arch.name))
			if err != nil {
				t.Fatal(err)
			}
			if committed, err := pause.Program(arch.name); err != nil || !bytes.Equal(built, committed) {
				t.Errorf("pause-%s is not what pause.c gives (%v): go generate ./cri/embedded/...", arch.name, err)
			}
		})
	}
}

// TestPauseReaps: in a shared pid namespace, orphans become children of pause and must not stay zombies.
func TestPauseReaps(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.importBusybox()
	sandbox := m.runSandbox("web")
	id := m.runContainerIn(runtimev1.NamespaceMode_POD, sandbox, "web", "app", "sh", "-c", "(sleep 0.05 &); exec sleep 1000")
	if got := m.exec(id, "cat", "/proc/1/comm"); got != "pause" {
		t.Fatalf("process 1 is %s", got)
	}
	await(t, "the orphan to be reaped", func() bool {
		return m.exec(id, "sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep || true") == "1"
	})
}
