package evict

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/evict/evictplan"
	"nodelet/agent/stats"
	"nodelet/internal/cgroup"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mi = 1 << 20

// world is a node with 1000 MiB of memory and 1000 MiB of disk, and an Evictor.
type world struct {
	*testing.T
	store *store.Store
	w     *store.Writers
	e     *Evictor

	mu           sync.Mutex
	memory, disk uint64 // free
	reclaims     uint64 // what one reclaim frees
	events       []string
	looks, reads int
	reclaimed    int
	changed      int
	used         map[string]uint64 // memory of pods by name
}

func (w *world) Node(_ context.Context, d stats.Depth) stats.Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	if d == stats.Memory {
		return stats.Node{Usage: &cgroup.Usage{WorkingSet: 1000*mi - w.memory}, Memory: 1000 * mi}
	}
	fs := &stats.Space{Available: w.disk, Capacity: 1000 * mi, InodesFree: 900, InodesAll: 1000, Device: 1}
	return stats.Node{Usage: &cgroup.Usage{WorkingSet: 1000*mi - w.memory}, Memory: 1000 * mi, Fs: fs, ImageFs: fs, ContainerFs: fs, Processes: 1, MaxProcesses: 1000}
}

func (w *world) Read(ctx context.Context, d stats.Depth) stats.All {
	all := stats.All{Node: w.Node(ctx, d)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads++
	for _, p := range w.store.Snapshot().Pods.All() {
		all.Pods = append(all.Pods, stats.Pod{Pod: p, Usage: &cgroup.Usage{WorkingSet: w.used[p.Name]}, Ephemeral: &stats.Space{}})
	}
	return all
}

func (w *world) Event(ref corev1.ObjectReference, kind, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s %s %s: %s", ref.Name, kind, reason, message))
}

func (w *world) set(change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
}

func (w *world) pod(name string, memory uint64) {
	uid := model.UID("u-" + name)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid), ResourceVersion: fmt.Sprint(time.Now().UnixNano())}}
	p.Spec.Containers = []corev1.Container{{Name: "c"}}
	w.set(func() { w.used[name] = memory })
	w.w.Runtime.Set(uid, &model.PodRuntime{UID: uid, Containers: []model.Container{{ID: name, Name: "c", State: model.ContainerRunning}}})
	w.w.Pods.Set(uid, p)
}

func evicting(t *testing.T, test func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, memory: 500 * mi, disk: 500 * mi, used: map[string]uint64{}}
		w.store, w.w = store.New()
		w.w.Pods.Replace(nil)
		w.w.Runtime.Replace(nil)
		thresholds, err := evictplan.Parse(evictplan.Statements{Hard: evictplan.DefaultHard()})
		if err != nil {
			t.Fatal(err)
		}
		w.e = New(Config{NodeName: "n1", Thresholds: thresholds, Pressure: "-", Kmsg: "-"}, Deps{
			Store: w.store, Evictions: w.w.Evictions, Stats: w, Events: w, Log: slog.New(slog.DiscardHandler),
			Changed: func() { w.set(func() { w.changed++ }) },
			Reclaim: func(context.Context) error {
				w.set(func() { w.reclaimed++; w.disk += w.reclaims })
				return errors.New("one image would not go")
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.e.Run(ctx) }()
		synctest.Wait()
		test(w)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (w *world) rows() string {
	synctest.Wait()
	var out []string
	for uid, row := range w.store.Snapshot().Evictions.All() {
		out = append(out, fmt.Sprintf("%s %s pressure=%t", uid, row.Grace, row.Pressure))
	}
	return strings.Join(out, ", ")
}

func (w *world) want(what, rows string) {
	w.Helper()
	if got := w.rows(); got != rows {
		w.Errorf("%s: %q, want %q", what, got, rows)
	}
}

// Memory that runs out costs one pod within a second, and the next one only when the first has gone
// or had its time.
func TestMemory(t *testing.T) {
	evicting(t, func(w *world) {
		w.pod("a", 100*mi)
		w.pod("b", 300*mi)
		time.Sleep(3500 * time.Millisecond)
		if w.want("enough", ""); w.reads != 0 {
			t.Errorf("pods were measured %d times without need", w.reads)
		}
		w.set(func() { w.memory = 90 * mi })
		time.Sleep(time.Second)
		w.want("short", "u-b 1s pressure=true")
		if !w.e.Has(corev1.NodeMemoryPressure) || w.e.Has(corev1.NodeDiskPressure) || w.changed != 1 {
			t.Errorf("conditions %v, told %d times", w.e.conditions, w.changed)
		}
		var all string
		w.set(func() { all = strings.Join(w.events, "\n") })
		if !strings.Contains(all, "n1 Warning EvictionThresholdMet: Attempting to reclaim memory") ||
			!strings.Contains(all, "b Warning Evicted: The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. ") {
			t.Errorf("events\n%s", all)
		}
		time.Sleep(20 * time.Second)
		w.want("while b is going", "u-b 1s pressure=true")
		rt, _ := w.store.Snapshot().Runtime.Get("u-b")
		gone := *rt
		gone.Containers = []model.Container{{ID: "b", Name: "c", State: model.ContainerExited}}
		w.w.Runtime.Set("u-b", &gone)
		time.Sleep(time.Second)
		w.want("b has gone, and it is not enough", "u-a 1s pressure=true, u-b 1s pressure=true")
		w.set(func() { w.memory = 500 * mi })
		p, _ := w.store.Snapshot().Pods.Get("u-b")
		failed := p.DeepCopy()
		failed.ResourceVersion, failed.Status.Phase = "x", corev1.PodFailed
		w.w.Pods.Set("u-b", failed)
		w.w.Pods.Delete("u-a")
		w.want("the API knows", "")
		time.Sleep(6 * time.Minute)
		if w.e.Has(corev1.NodeMemoryPressure) {
			t.Error("the condition stays")
		}
	})
}

// A full disk costs images first, and no pod when that is enough.
func TestDiskReclaims(t *testing.T) {
	evicting(t, func(w *world) {
		w.pod("a", 1)
		w.set(func() { w.disk, w.reclaims = 50*mi, 500*mi })
		time.Sleep(11 * time.Second)
		if w.want("reclaimed", ""); w.reclaimed != 1 {
			t.Errorf("reclaimed %d times", w.reclaimed)
		}
		w.set(func() { w.disk, w.reclaims = 50*mi, 0 })
		time.Sleep(11 * time.Second)
		w.want("nothing left to reclaim", "u-a 1s pressure=true")
		if !w.e.Has(corev1.NodeDiskPressure) {
			t.Error("no condition")
		}
	})
}

func TestParseOOM(t *testing.T) {
	const global = "6,1234,99,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/x,task=a,pid=b,pid=77,uid=0\n SUBSYSTEM=x\n"
	if victim, pid, ok := parseOOM(global); !ok || victim != "a,pid=b" || pid != "77" {
		t.Errorf("%q %q %t", victim, pid, ok)
	}
	for _, other := range []string{
		"", "6,1,2,-;hello", "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/kubepods/x,task_memcg=/kubepods/x/y,task=z,pid=1,uid=0",
		"6,1,2,-;oom-kill:a,global_oom,task", "6,1,2,-;oom-kill:a,global_oom,b,task=x",
	} {
		if _, _, ok := parseOOM(other); ok {
			t.Errorf("%q is no kill of the whole machine", other)
		}
	}
}

// kernelLog gives one record or error a read, as /dev/kmsg does.
type kernelLog []any

func (k *kernelLog) Read(p []byte) (int, error) {
	if len(*k) == 0 {
		return 0, os.ErrClosed
	}
	next := (*k)[0]
	*k = (*k)[1:]
	if err, ok := next.(error); ok {
		return 0, err
	}
	return copy(p, next.(string)), nil
}

// A process that the kernel killed because the machine had no memory is an event of the node, also
// when records before it were overwritten; a kill for a container's limit is not.
func TestSystemOOM(t *testing.T) {
	oom := func(constraint, task string) string {
		return "6,1,2,-;oom-kill:constraint=" + constraint + ",task_memcg=/x,task=" + task + ",pid=77,uid=0\n"
	}
	w := &world{T: t}
	e := New(Config{NodeName: "n1"}, Deps{Events: w, Log: slog.New(slog.DiscardHandler)})
	e.readKernel(&kernelLog{
		"6,1,1,-;something else\n", &os.PathError{Op: "read", Path: "/dev/kmsg", Err: unix.EPIPE},
		oom("CONSTRAINT_MEMCG,oom_memcg=/kubepods/x", "limited"), oom("CONSTRAINT_NONE,nodemask=(null),global_oom", "hungry"),
	})
	if want := "n1 Warning SystemOOM: System OOM encountered, victim process: hungry, pid: 77"; len(w.events) != 1 || w.events[0] != want {
		t.Errorf("events %q, want %q", w.events, want)
	}
}

// The kernel's own files, where it has them: nothing hangs, and all ends with the context.
func TestKernelFiles(t *testing.T) {
	st, w := store.New()
	e := New(Config{NodeName: "n1"}, Deps{Store: st, Evictions: w.Evictions, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
