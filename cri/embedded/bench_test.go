package embedded

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// BenchmarkStart reports how long Start says that it took, on a root that has been used before.
func BenchmarkStart(b *testing.B) {
	m := newMachine(b)
	m.start()
	for b.Loop() {
		m.signal(syscall.SIGTERM)
		m.start()
	}
	log, err := os.ReadFile(m.log.Name())
	if err != nil {
		b.Fatal(err)
	}
	var times []time.Duration
	for _, found := range regexp.MustCompile(`took=(\S+)`).FindAllSubmatch(log, -1) {
		took, err := time.ParseDuration(string(found[1]))
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, took)
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "ms/start-p50")
	b.ReportMetric(float64(m.memory("Pss:", m.cmd.Process.Pid))/1024, "MB-pss")
	b.ReportMetric(float64(m.memory("Rss:", m.cmd.Process.Pid))/1024, "MB-rss")
}

// BenchmarkPod measures one pod of one container, step by step: the floor of any agent.
func BenchmarkPod(b *testing.B) {
	m := newMachine(b)
	m.start()
	m.importBusybox()
	steps := map[string]time.Duration{}
	step := func(name string, f func()) {
		start := time.Now()
		f()
		steps[name] += time.Since(start)
	}
	for b.Loop() {
		var sandbox, id string
		step("sandbox-ms", func() { sandbox = m.runSandbox("web") })
		step("container-ms", func() { id = m.runContainer(sandbox, "web", "app", "sleep", "1000") })
		step("stop-ms", func() {
			if _, err := m.cri.StopContainer(b.Context(), &runtimev1.StopContainerRequest{ContainerId: id}); err != nil {
				b.Fatal(err)
			}
			if _, err := m.cri.StopPodSandbox(b.Context(), &runtimev1.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
				b.Fatal(err)
			}
		})
		step("remove-ms", func() {
			if _, err := m.cri.RemovePodSandbox(b.Context(), &runtimev1.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
				b.Fatal(err)
			}
		})
	}
	for name, took := range steps {
		b.ReportMetric(float64(took.Microseconds())/1000/float64(b.N), name)
	}
}

// BenchmarkMemory reports what ten idle pods take: per shim, per pause process, and the daemon.
func BenchmarkMemory(b *testing.B) {
	m := newMachine(b)
	m.start()
	const pods = 10
	for i := range pods {
		m.runSandbox("pod-" + strconv.Itoa(i))
	}
	for b.Loop() {
		inside, shims := processes(m.config.Socket(), m.ids())
		b.ReportMetric(float64(m.memory("Pss:", shims...))/float64(len(shims)), "kB-pss/shim")
		b.ReportMetric(float64(m.memory("Rss:", shims...))/float64(len(shims)), "kB-rss/shim")
		b.ReportMetric(float64(m.memory("Pss:", inside...))/float64(len(inside)), "kB-pss/pause")
		b.ReportMetric(float64(m.memory("Pss:", m.cmd.Process.Pid))/1024, "MB-pss/daemon")
	}
}

func (m *machine) ids() map[string]bool {
	ids := map[string]bool{}
	for _, c := range m.config.containers() {
		ids[c.id] = true
	}
	return ids
}

// memory adds up a field of smaps_rollup, in kB.
func (m *machine) memory(field string, pids ...int) int {
	m.t.Helper()
	sum := 0
	for _, pid := range pids {
		content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
		if err != nil {
			m.t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == field {
				kb, err := strconv.Atoi(fields[1])
				if err != nil {
					m.t.Fatal(err)
				}
				sum += kb
			}
		}
	}
	return sum
}
