package agent

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
	"nodelet/cri/critest"
)

// memory keeps what is put as a file would: as JSON. The agents that use it follow one another.
type memory struct {
	mu   sync.Mutex
	rows map[string][]byte
}

func (m *memory) Put(key string, k KeptStop) error {
	raw, err := json.Marshal(k)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[key] = raw
	return err
}

func (m *memory) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.rows, key)
	return nil
}

func (m *memory) all() map[string]KeptStop {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]KeptStop{}
	for key, raw := range m.rows {
		var k KeptStop
		if json.Unmarshal(raw, &k) == nil {
			all[key] = k
		}
	}
	return all
}

// A grace period goes on and a hook that has run does not run again, however often the daemon dies.
func TestStopSurvivesTheDaemon(t *testing.T) {
	config := quiet
	config.Program = func(*runtimev1.ContainerConfig) critest.Program { return critest.Program{IgnoreTerm: true} }
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config)
		hooks := 0
		w.hook = func(context.Context, Hook) error {
			hooks++
			return nil
		}
		w.start()
		uid := w.run(pod("a", corev1.Container{Name: "a", Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{}}}}))
		if kept := w.kept.all(); len(kept) > 0 {
			t.Errorf("kept of a pod that runs: %v", kept)
		}
		began := time.Now()
		w.delete(uid, 60)
		for w.get(uid) != nil && time.Since(began) < 5*time.Minute {
			time.Sleep(7 * time.Second)
			w.kill()
			w.start()
		}
		if took := time.Since(began); took < 60*time.Second || took > 70*time.Second {
			t.Errorf("gone after %s", took)
		}
		if hooks != 1 {
			t.Errorf("the preStop hook ran %d times", hooks)
		}
		w.await("nothing kept", time.Minute, func() bool { return len(w.kept.all()) == 0 })
		w.kill()
	})
}

// What was kept of a pod that is gone from everywhere is forgotten.
func TestKeptOfPodsThatAreGone(t *testing.T) {
	in(t, quiet, func(w *world) {
		w.kill()
		if err := w.kept.Put("gone", KeptStop{Stopping: time.Now()}); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.await("forgotten", time.Minute, func() bool { return len(w.kept.all()) == 0 })
	})
}

// A stop that was kept before the clock was set back has just begun: its grace period ends all the same.
func TestAStopKeptBeforeTheClockWasSetBack(t *testing.T) {
	later := time.Now().Add(24 * time.Hour)
	p := &podNotes{}
	p.Containers = map[string]podplan.ContainerNote{}
	KeptStop{Stopping: later, Grace: time.Minute, Containers: map[string]KeptContainer{"c": {Stopping: later}}}.restore(p)
	if now := time.Now(); p.Stopping.After(now) || p.Containers["c"].Stopping.After(now) || p.grace != time.Minute {
		t.Errorf("%+v", p.Notes)
	}
}
