package shutdown

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/shutdown/shutdownplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// machine is a logind in memory, and what the shutdown does to it, in order.
type machine struct {
	mu      sync.Mutex
	log     []string
	delay   time.Duration
	down    bool
	refuse  error
	session *session
}

type session struct {
	m      *machine
	events chan bool
}

func (m *machine) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// set changes the machine.
func (m *machine) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// told gives what happened since the last call.
func (m *machine) told() string {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	out := strings.Join(m.log, "; ")
	m.log = nil
	return out
}

func (m *machine) connect(context.Context) (Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return nil, m.refuse
	}
	m.session = &session{m: m, events: make(chan bool)}
	return m.session, nil
}

func (s *session) Events() <-chan bool { return s.events }
func (s *session) Close() error        { return nil }
func (s *session) ShuttingDown() (bool, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.m.down, nil
}

func (s *session) Delay() (time.Duration, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.m.delay, nil
}

func (s *session) Lock(string) (io.Closer, error) {
	s.m.note("lock")
	return unlock{s.m}, nil
}

func (s *session) Extend(_ context.Context, d time.Duration) error {
	s.m.note("extend to %s", d)
	s.m.set(func() { s.m.delay = d })
	return nil
}

type unlock struct{ m *machine }

func (u unlock) Close() error { u.m.note("unlock"); return nil }

func (m *machine) Event(_ corev1.ObjectReference, _, _, message string) { m.note("event %q", message) }

// world is a store with a shutdown.
type world struct {
	*machine
	s    *Shutdown
	w    *store.Writers
	pods map[model.UID]*corev1.Pod
	stop func()
}

// in runs a test with a daemon whose periods are 20 s for all, then 10 s for priorities from 100 on.
func in(t *testing.T, m *machine, test func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		snapshots, writers := store.New()
		w := &world{machine: m, w: writers, pods: map[model.UID]*corev1.Pod{}}
		w.s = New(Config{NodeName: "n", Periods: []shutdownplan.Period{{Priority: 0, Grace: 20 * time.Second}, {Priority: 100, Grace: 10 * time.Second}}}, Deps{
			Store: snapshots, Connect: m.connect, Events: m,
			End: func(row *model.Eviction) {
				m.note("end %s within %s: %s", row.UID, row.Grace, row.Why())
				writers.Evictions.Set(row.UID, row)
			},
			Times: func(start, end time.Time) { m.note("ended %t", !end.IsZero()) },
			Log:   slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = w.s.Run(ctx) }()
		w.stop = func() { cancel(); <-done }
		writers.Runtime.Replace(nil)
		w.pod("low", 0, corev1.PodRunning)
		w.pod("high", 100, corev1.PodRunning)
		test(t, w)
		w.stop()
	})
}

func (w *world) pod(name string, priority int32, phase corev1.PodPhase) {
	grace := int64(5)
	uid := model.UID(name)
	w.pods[uid] = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid), ResourceVersion: string(phase)},
		Spec:       corev1.PodSpec{Priority: &priority, TerminationGracePeriodSeconds: &grace}, Status: corev1.PodStatus{Phase: phase},
	}
	w.w.Pods.Replace(maps.Clone(w.pods))
}

func expect(t *testing.T, w *world, want string) {
	t.Helper()
	if got := w.told(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPodsEndInOrderAndThenTheMachine(t *testing.T) {
	in(t, &machine{delay: 5 * time.Second}, func(t *testing.T, w *world) {
		expect(t, w, "extend to 30s; lock")
		w.session.events <- true
		expect(t, w, `ended false; event "Shutdown manager detected shutdown event"; end low within 5s: Terminated`)
		if !w.s.Begun() {
			t.Error("nobody is told")
		}
		w.w.Volumes.Set("low", &model.PodVolumes{UID: "low"})
		w.pod("low", 0, corev1.PodFailed)
		expect(t, w, "") // its volumes are still there
		w.w.Volumes.Delete("low")
		expect(t, w, "end high within 5s: Terminated")
		w.pod("high", 100, corev1.PodFailed)
		expect(t, w, "ended true; unlock")
		time.Sleep(time.Hour)
		expect(t, w, "")
	})
}

func TestPodsThatDoNotEndDelayNoLongerThanTheirPeriods(t *testing.T) {
	in(t, &machine{delay: time.Hour}, func(t *testing.T, w *world) {
		expect(t, w, "lock")
		w.session.events <- true
		w.told()
		time.Sleep(20*time.Second - time.Millisecond)
		expect(t, w, "")
		time.Sleep(time.Millisecond)
		expect(t, w, "end high within 5s: Terminated")
		time.Sleep(10 * time.Second)
		expect(t, w, "ended true; unlock")
	})
}

func TestCalledOff(t *testing.T) {
	in(t, &machine{delay: time.Hour}, func(t *testing.T, w *world) {
		expect(t, w, "lock")
		w.session.events <- true
		time.Sleep(time.Minute)
		w.told()
		w.session.events <- false
		expect(t, w, `event "Shutdown manager detected shutdown cancellation"; lock`)
		if w.s.Begun() {
			t.Error("still shutting down")
		}
		w.pod("new", 0, corev1.PodRunning)
		expect(t, w, "")
		w.session.events <- true
		expect(t, w, `ended false; event "Shutdown manager detected shutdown event"; end new within 5s: Terminated`)
	})
}

// TestConnectionIsLost: logind or the bus is restarted, also while the machine goes down.
func TestConnectionIsLost(t *testing.T) {
	in(t, &machine{delay: time.Hour}, func(t *testing.T, w *world) {
		expect(t, w, "lock")
		w.set(func() { w.refuse = errors.New("no bus") })
		close(w.session.events)
		time.Sleep(10 * time.Minute)
		expect(t, w, "") // the lock is held all the time
		w.set(func() { w.refuse, w.down = nil, true })
		time.Sleep(2 * time.Minute)
		w.pod("low", 0, corev1.PodFailed)
		time.Sleep(2 * time.Minute)
		got := w.told()
		if !strings.Contains(got, "end high within 5s") || !strings.HasSuffix(got, "ended true; unlock") || strings.Contains(got, "; lock") {
			t.Errorf("got %s", got)
		}
	})
}

// A shutdown that is called off while nobody listens is over all the same: the node takes pods again.
func TestCalledOffWhileTheConnectionIsLost(t *testing.T) {
	in(t, &machine{delay: time.Hour}, func(t *testing.T, w *world) {
		w.told()
		w.set(func() { w.down = true })
		w.session.events <- true
		time.Sleep(time.Minute)
		w.told()
		w.set(func() { w.down = false })
		close(w.session.events)
		time.Sleep(time.Minute)
		expect(t, w, `event "Shutdown manager detected shutdown cancellation"; lock`)
		if w.s.Begun() {
			t.Error("still shutting down")
		}
		w.session.events <- true
		w.told()
		if !w.s.Begun() {
			t.Error("the next one is not seen")
		}
	})
}

// TestDaemonEnds: the lock goes with it.
func TestDaemonEnds(t *testing.T) {
	in(t, &machine{delay: time.Hour}, func(t *testing.T, w *world) {
		expect(t, w, "lock")
		w.stop()
		expect(t, w, "unlock")
	})
}

func TestNoPeriodsNoConnection(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := New(Config{}, Deps{Connect: func(context.Context) (Session, error) { panic("asked") }})
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}
