package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri/critest"
	"nodelet/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is a runtime without random faults.
var quiet = critest.Config{FaultRate: -1}

// in runs a test in a bubble of fake time with a daemon started.
func in(t *testing.T, config critest.Config, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config)
		w.start()
		test(w)
		w.kill()
		if bad := w.runtime.Incidents(); len(bad) > 0 {
			t.Errorf("incidents: %v\n%s", bad, w)
		}
	})
}

func (w *world) ready(uid model.UID) bool {
	return condition(w.get(uid), corev1.PodReady) == corev1.ConditionTrue
}

// runs puts a pod and waits until it is ready.
func (w *world) run(p *corev1.Pod) model.UID {
	w.t.Helper()
	uid := model.UID(p.UID)
	w.put(p)
	w.await("pod ready", time.Minute, func() bool { return w.ready(uid) })
	return uid
}

// container gives the newest container of that name.
func (w *world) container(name string) *runtimev1.ContainerStatus {
	var newest *runtimev1.ContainerStatus
	for _, c := range w.runtime.Containers() {
		if c.GetMetadata().GetName() == name && (newest == nil || c.GetMetadata().GetAttempt() > newest.GetMetadata().GetAttempt()) {
			newest = c
		}
	}
	return newest
}

func (w *world) empty() bool { return len(w.runtime.Containers())+len(w.runtime.Sandboxes()) == 0 }

// Time stands still in a bubble while anything can be done: whatever takes no
// time here waits for nothing but its work.
func TestNothingPolls(t *testing.T) {
	in(t, quiet, func(w *world) {
		synctest.Wait()
		within := func(what string, limit time.Duration, do func(), true func() bool) {
			began := time.Now()
			do()
			w.await(what, time.Minute, true)
			if took := time.Since(began); took > limit {
				w.t.Errorf("%s took %s", what, took)
			}
		}
		p := pod("a", corev1.Container{Name: "c"})
		uid := model.UID(p.UID)
		const atOnce = 10 * time.Millisecond // the steps of await are 6 ms
		within("start", atOnce, func() { w.put(p) }, func() bool { return w.ready(uid) })
		within("restart", atOnce, func() { w.runtime.Exit(w.container("c").GetId(), 1) }, func() bool {
			return w.ready(uid) && w.get(uid).Status.ContainerStatuses[0].RestartCount == 1
		})
		within("deletion", atOnce, func() { w.delete(uid, 30) }, func() bool { return w.get(uid) == nil })
		within("rest", atOnce, func() {}, w.empty)
	})
}

func TestWithoutEvents(t *testing.T) {
	config := quiet
	config.Unimplemented = []string{"GetContainerEvents"}
	in(t, config, func(w *world) {
		uid := w.run(pod("a", corev1.Container{Name: "c"}))
		w.runtime.Exit(w.container("c").GetId(), 1)
		w.await("restart by relisting", 1100*time.Millisecond, func() bool {
			return w.ready(uid) && w.get(uid).Status.ContainerStatuses[0].RestartCount == 1
		})
	})
}

func TestGraceIsShortened(t *testing.T) {
	config := quiet
	config.Program = func(*runtimev1.ContainerConfig) critest.Program { return critest.Program{IgnoreTerm: true} }
	in(t, config, func(w *world) {
		uid := w.run(pod("a", corev1.Container{Name: "c"}))
		began := time.Now()
		w.delete(uid, 600)
		time.Sleep(10 * time.Second)
		w.delete(uid, 5)
		w.await("pod gone", time.Minute, func() bool { return w.get(uid) == nil })
		if took := time.Since(began); took < 15*time.Second || took > 16*time.Second {
			t.Errorf("gone after %s", took)
		}
	})
}

// A crashing container backs off the same, and its restarts count on, however often the daemon dies.
func TestBackOffSurvivesTheDaemon(t *testing.T) {
	config := quiet
	config.Program = func(*runtimev1.ContainerConfig) critest.Program {
		return critest.Program{RunFor: time.Second, ExitCode: 1}
	}
	in(t, config, func(w *world) {
		p := pod("a", corev1.Container{Name: "c"})
		w.put(p)
		starts := map[uint32]time.Time{}
		ends := map[uint32]time.Time{}
		for end := time.Now().Add(6 * time.Minute); time.Now().Before(end); {
			for range 50 {
				time.Sleep(100 * time.Millisecond)
				for _, c := range w.runtime.Containers() {
					starts[c.GetMetadata().GetAttempt()] = moment(c.GetStartedAt())
					ends[c.GetMetadata().GetAttempt()] = moment(c.GetFinishedAt())
				}
			}
			w.kill()
			w.start()
		}
		want := []time.Duration{0, 10, 20, 40, 80, 160}
		for i, least := range want {
			gap := starts[uint32(i+1)].Sub(ends[uint32(i)])
			if gap < least*time.Second || gap > least*time.Second+time.Second {
				t.Errorf("restart %d came %s after the end, want %d s", i+1, gap, least)
			}
		}
		if got := w.get(model.UID(p.UID)).Status.ContainerStatuses[0].RestartCount; got < 6 {
			t.Errorf("restart count %d", got)
		}
	})
}

func TestReadyDoesNotFlip(t *testing.T) {
	in(t, quiet, func(w *world) {
		w.probed = func(model.Container) model.Verdict { return model.Success }
		var uids []model.UID
		for i := range 5 {
			uids = append(uids, w.run(pod(fmt.Sprint("p", i), corev1.Container{Name: "c", ReadinessProbe: &corev1.Probe{}})))
		}
		w.mu.Lock()
		clear(w.history)
		w.mu.Unlock()
		ids := len(w.runtime.Containers())
		for i := range 20 {
			w.kill()
			w.start()
			time.Sleep(time.Duration(i) * 150 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		for _, uid := range uids {
			if h := w.history[uid]; len(h) > 0 {
				t.Errorf("status of %s was written %d times: %+v", uid, len(h), h[0])
			}
		}
		if len(w.runtime.Containers()) != ids {
			t.Errorf("containers were made:\n%s", w)
		}
	})
}

func TestOneHangsOthersDoNot(t *testing.T) {
	for _, op := range []string{"RunPodSandbox", "CreateContainer", "StartContainer", "ContainerStatus", "PodSandboxStatus", "StopContainer", "StopPodSandbox", "RemovePodSandbox"} {
		t.Run(op, func(t *testing.T) {
			in(t, quiet, func(w *world) {
				w.runtime.Inject(critest.Fault{Op: op, Key: "ns/bad", Kind: critest.Hang, Times: -1})
				bad := pod("bad", corev1.Container{Name: "c"})
				w.put(bad)
				time.Sleep(time.Second)
				w.delete(model.UID(bad.UID), 1)
				time.Sleep(time.Second)
				began := time.Now()
				uid := w.run(pod("good", corev1.Container{Name: "d"}))
				w.delete(uid, 1)
				w.await("good pod gone", time.Minute, func() bool { return w.get(uid) == nil })
				if took := time.Since(began); took > 100*time.Millisecond {
					t.Errorf("a pod took %s beside one that hangs", took)
				}
				// A daemon that starts beside it does not wait for long, either.
				w.kill()
				began = time.Now()
				w.start()
				w.run(pod("good2", corev1.Container{Name: "d"}))
				if took := time.Since(began); took > firstLook+100*time.Millisecond {
					t.Errorf("after a restart a pod took %s beside one that hangs", took)
				}
			})
		})
	}
}

func TestAnswersThatAreLost(t *testing.T) {
	for _, op := range []string{"RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer", "StopPodSandbox", "RemovePodSandbox"} {
		for _, kind := range []critest.Kind{critest.Lose, critest.Linger, critest.Refuse} {
			t.Run(fmt.Sprint(op, kind), func(t *testing.T) {
				in(t, quiet, func(w *world) {
					w.runtime.Inject(critest.Fault{Op: op, Kind: kind, Delay: 300 * time.Millisecond, Times: 2})
					uid := w.run(pod("a", corev1.Container{Name: "c"}))
					if n := len(w.runtime.Containers()); op != "StartContainer" && n != 1 {
						t.Errorf("%d containers:\n%s", n, w)
					}
					w.delete(uid, 2)
					w.await("pod gone", time.Minute, func() bool { return w.get(uid) == nil && w.empty() })
				})
			})
		}
	}
}

func TestOrphans(t *testing.T) {
	in(t, quiet, func(w *world) {
		uid := w.run(pod("a", corev1.Container{Name: "c"}))
		logs := filepath.Join(w.dir, "pods", "ns_a_"+uid.String())
		if _, err := os.Stat(logs); err != nil {
			t.Fatal(err)
		}
		w.kill()
		w.remove(uid)
		w.start()
		w.await("orphan gone", time.Minute, w.empty)
		w.await("logs gone", time.Minute, func() bool { _, err := os.Stat(logs); return errors.Is(err, os.ErrNotExist) })
	})
}

func TestRuntimeComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, quiet)
		w.runtime.Down()
		w.start()
		p := pod("a", corev1.Container{Name: "c"})
		w.put(p)
		time.Sleep(time.Minute)
		w.runtime.Up()
		w.await("pod ready", 10*time.Second, func() bool { return w.ready(model.UID(p.UID)) })
		w.runtime.Down()
		time.Sleep(time.Minute)
		if !w.ready(model.UID(p.UID)) {
			t.Error("a pod is not ready because the runtime is not answering")
		}
		w.runtime.Up()
		w.runtime.Exit(w.container("c").GetId(), 1)
		w.await("restart", 10*time.Second, func() bool { return w.get(model.UID(p.UID)).Status.ContainerStatuses[0].RestartCount == 1 })
		w.kill()
	})
}

func TestSandboxDies(t *testing.T) {
	in(t, quiet, func(w *world) {
		uid := w.run(pod("a", corev1.Container{Name: "c"}, corev1.Container{Name: "d"}))
		old := w.get(uid).Status.PodIP
		w.runtime.KillSandbox(w.runtime.Sandboxes()[0].GetId())
		w.await("new sandbox", time.Minute, func() bool { return w.ready(uid) && w.get(uid).Status.PodIP != old })
		for _, s := range w.get(uid).Status.ContainerStatuses {
			if s.RestartCount != 1 {
				t.Errorf("%s was restarted %d times", s.Name, s.RestartCount)
			}
		}
	})
}

func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, quiet)
		var calls []string
		fail := true
		w.hook = func(ctx context.Context, h Hook) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			kind := "post"
			if h.Handler.Sleep != nil {
				kind = "pre"
			}
			calls = append(calls, kind+" "+h.Container)
			if kind == "post" && fail {
				fail = false
				return errors.New("no")
			}
			return nil
		}
		w.start()
		uid := w.run(pod("a",
			corev1.Container{Name: "a", Lifecycle: &corev1.Lifecycle{
				PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{}},
				PreStop:   &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{}},
			}},
			corev1.Container{Name: "b"}))
		if n := w.get(uid).Status.ContainerStatuses[0].RestartCount; n != 1 {
			t.Errorf("%d restarts after a failed hook", n)
		}
		order := w.runtime.Calls()
		first := slices.IndexFunc(order, func(c critest.Call) bool { return c.Op == "StartContainer" && strings.HasSuffix(c.Key, "/b") })
		killed := slices.IndexFunc(order, func(c critest.Call) bool { return c.Op == "StopContainer" && strings.HasSuffix(c.Key, "/a") })
		if first < killed {
			t.Errorf("the second container did not wait for the hook of the first")
		}
		w.delete(uid, 30)
		w.await("pod gone", time.Minute, func() bool { return w.get(uid) == nil })
		if got := strings.Join(calls, ", "); got != "post a, post a, pre a" {
			t.Errorf("hooks: %s", got)
		}
		w.kill()
	})
}

func TestFilesOfContainers(t *testing.T) {
	in(t, quiet, func(w *world) {
		p := pod("a", corev1.Container{Name: "c", TerminationMessagePath: "/dev/termination-log"})
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		uid := w.run(p)
		dir := filepath.Join(w.dir, "root/pods", uid.String())
		hosts, err := os.ReadFile(filepath.Join(dir, "etc-hosts"))
		if err != nil || !strings.Contains(string(hosts), w.get(uid).Status.PodIP+"\ta\n") {
			t.Errorf("hosts file %q %v", hosts, err)
		}
		last := filepath.Join(dir, "containers/c/0")
		if info, err := os.Stat(last); err != nil || info.Mode().Perm() != 0o666 {
			t.Errorf("termination log: %v %v", info, err)
		}
		if err := os.WriteFile(last, []byte("farewell"), 0o666); err != nil {
			t.Fatal(err)
		}
		w.runtime.Exit(w.container("c").GetId(), 3)
		w.await("pod failed", time.Minute, func() bool { return w.get(uid).Status.Phase == corev1.PodFailed })
		if got := w.get(uid).Status.ContainerStatuses[0].State.Terminated; got.Message != "farewell" || got.ExitCode != 3 {
			t.Errorf("terminated %+v", got)
		}
	})
}

// The last words of a container that said none in its file are the end of its log, if it failed and
// its policy says so: 80 lines, 2048 bytes at the most.
func TestLastWordsFromTheLog(t *testing.T) {
	in(t, quiet, func(w *world) {
		fallback := corev1.TerminationMessageFallbackToLogsOnError
		var all []corev1.Container
		for name, policy := range map[string]corev1.TerminationMessagePolicy{
			"lines": fallback, "bytes": fallback, "said": fallback, "good": fallback, "silent": fallback, "file": corev1.TerminationMessageReadFile,
		} {
			all = append(all, corev1.Container{Name: name, TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: policy})
		}
		p := pod("a", all...)
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		uid := w.run(p)
		line := func(text string) string { return "2026-08-01T12:00:00.123456789Z stderr F " + text + "\n" }
		for name, text := range map[string]string{
			"lines": strings.Repeat(line("x"), 100), "bytes": strings.Repeat(line(strings.Repeat("y", 1023)), 5),
			"said": line("log"), "good": line("log"), "file": line("log"),
		} {
			dir := filepath.Join(w.dir, "pods", "ns_a_"+uid.String(), name)
			if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "0.log"), []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(w.dir, "root/pods", uid.String(), "containers/said/0"), []byte("farewell"), 0o666); err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			code := int32(1)
			if c.Name == "good" {
				code = 0
			}
			w.runtime.Exit(w.container(c.Name).GetId(), code)
		}
		w.await("pod failed", time.Minute, func() bool { return w.get(uid).Status.Phase == corev1.PodFailed })
		want := map[string]string{
			"lines": strings.Repeat("x\n", 80), "bytes": strings.Repeat(strings.Repeat("y", 1023)+"\n", 2), "said": "farewell",
			"good": "", "silent": "", "file": "",
		}
		for _, s := range w.get(uid).Status.ContainerStatuses {
			if got := s.State.Terminated.Message; got != want[s.Name] {
				t.Errorf("%s: %q (%d bytes), want %q", s.Name, got, len(got), want[s.Name])
			}
		}
	})
}

// A container waits for the images of its image volumes, and for nothing else.
func TestImageVolume(t *testing.T) {
	in(t, quiet, func(w *world) {
		p := pod("a", corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}})
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "data:1"}}}}
		w.pulling = time.Second
		began := time.Now()
		w.run(p)
		if took := time.Since(began); took > 2*w.pulling+10*time.Millisecond {
			t.Errorf("took %s", took)
		}
	})
}
