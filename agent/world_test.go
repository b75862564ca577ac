package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"nodelet/agent/admission"
	"nodelet/agent/podplan"
	"nodelet/cri"
	"nodelet/cri/critest"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// world is everything around an agent: an API server, a runtime, and the parts
// beside it. The agent in it may be killed and started anew.
type world struct {
	t       testing.TB
	runtime *critest.Server
	dir     string
	hook    func(context.Context, Hook) error
	node    podplan.Node

	mu      sync.Mutex
	pods    map[model.UID]*corev1.Pod
	version int
	writers *store.Writers // of the daemon that runs now; nil: none
	// history has every status written, by pod.
	history map[model.UID][]corev1.PodStatus
	events  []string
	// pulling is how long a pull takes.
	pulling time.Duration
	// probed says what the probes of all containers say; nil: there are none.
	probed func(model.Container) model.Verdict
	// refuse makes writes to the API fail, by the count of writes so far.
	refuse func(n int) error
	writes int
	// used is the memory that everything uses; room what the node has.
	used uint64
	room admission.Node
	// metrics may be nil.
	metrics Metrics
	// cgroup makes changes of cgroups fail, by the count of changes so far.
	cgroup  func(n int) error
	cgroups int

	// kept is what outlives the daemon.
	kept *memory
	// changed is closed at the next write to the API; agent is the one that runs.
	changed chan struct{}
	agent   *Agent
	stop    func()
}

func newWorld(t testing.TB, runtime critest.Config) *world {
	w := &world{
		t: t, runtime: critest.New(runtime), dir: t.TempDir(),
		pods: map[model.UID]*corev1.Pod{}, history: map[model.UID][]corev1.PodStatus{},
		changed: make(chan struct{}), kept: &memory{rows: map[string][]byte{}},
	}
	t.Cleanup(func() {
		w.kill()
		w.runtime.Close()
	})
	return w
}

// start runs a daemon with nothing in its memory.
func (w *world) start() {
	s, writers := store.New()
	w.mu.Lock()
	w.writers = writers
	pods := map[model.UID]*corev1.Pod{}
	maps.Copy(pods, w.pods)
	w.mu.Unlock()
	a, err := New(w.config(), Deps{
		Store: s, Writer: writers.Runtime, Allocations: writers.Allocations, Runtime: w.runtime.Runtime(cri.Deps{}), API: w, Events: w,
		Node: func() podplan.Node { return w.node },
		EnsureImage: func(_ context.Context, r ImageRequest) {
			if w.pulling == 0 {
				w.pull(writers, r)
				return
			}
			w.pullBegins(writers, r)
			time.AfterFunc(w.pulling, func() { w.pull(writers, r) })
		},
		RunHook: w.hook, EnsureCgroup: w.ensureCgroup,
		MemoryUsage: func(*corev1.Pod, string) (uint64, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.used, nil
		},
		Admission: func() admission.Node {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.room
		},
		Metrics: w.metrics, Exits: w.runtime.Exits,
		Keep: w.kept, Before: w.kept.all(),
		Log: slog.New(slog.NewTextHandler(testLog{w.t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		if err := a.Run(ctx); err != nil {
			w.t.Errorf("agent ended: %v", err)
		}
	})
	group.Go(func() { w.volumes(ctx, s, writers) })
	group.Go(func() { w.probe(ctx, s, writers) })
	writers.Services.Replace(nil)
	writers.Pods.Replace(pods)
	w.agent, w.stop = a, func() { cancel(); group.Wait() }
}

func (w *world) config() Config {
	return Config{
		Settings: podplan.Settings{
			NodeName: "node", RootDir: w.dir + "/root", PodLogDir: w.dir + "/pods", ClusterDomain: "cluster.local",
		},
		ContainerLogDir: w.dir + "/containers",
	}
}

// kill ends the daemon as kill -9 does, as far as that is possible from inside.
func (w *world) kill() {
	w.mu.Lock()
	stop := w.stop
	w.writers, w.stop = nil, nil
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// pullBegins notes that an image is being pulled.
func (w *world) pullBegins(writers *store.Writers, r ImageRequest) {
	ref := model.ImageRef(r.Image)
	writers.Images.Set(ref, &model.Image{
		Ref: ref, State: model.ImagePulling, Checked: time.Now(), Pulls: map[string]model.Pull{"": {State: model.ImagePulling}},
	})
}

// pull makes an image present at once.
func (w *world) pull(writers *store.Writers, r ImageRequest) {
	w.runtime.AddImage(r.Image)
	ref := model.ImageRef(r.Image)
	served := model.ContainerKey{PodUID: model.UID(r.Pod.UID), Name: r.Container}
	writers.Images.Set(ref, &model.Image{
		Ref: ref, State: model.ImagePresent, ID: r.Image, Checked: time.Now(),
		Pulls: map[string]model.Pull{"": {State: model.ImagePresent, Served: map[model.ContainerKey]uint32{served: r.Attempt}}},
	})
}

// volumes stands for the volume part: directories for all, gone when the pod is over.
func (w *world) volumes(ctx context.Context, s *store.Store, writers *store.Writers) {
	for ctx.Err() == nil {
		snap := s.Snapshot()
		writers.Volumes.Commit(func(tx *store.Tx[model.UID, *model.PodVolumes]) {
			for uid, pod := range snap.Pods.All() {
				rt, _ := snap.Runtime.Get(uid)
				over := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
				if over && !runs(rt) {
					tx.Delete(uid)
					continue
				}
				paths := map[string]string{}
				for _, v := range pod.Spec.Volumes {
					paths[v.Name] = "/volumes/" + v.Name
				}
				tx.Set(uid, &model.PodVolumes{UID: uid, State: model.VolumesReady, HostPaths: paths})
			}
			for uid := range snap.Volumes.All() {
				rt, _ := snap.Runtime.Get(uid)
				if _, ok := snap.Pods.Get(uid); !ok && snap.Pods.Synced() && !runs(rt) {
					tx.Delete(uid)
				}
			}
		})
		select {
		case <-snap.Changed():
		case <-ctx.Done():
		}
	}
}

// probe stands for the probe part: readiness, a second after a container is first seen.
func (w *world) probe(ctx context.Context, s *store.Store, writers *store.Writers) {
	seen := map[string]time.Time{}
	for ctx.Err() == nil {
		snap := s.Snapshot()
		wait := time.Hour
		for uid, rt := range snap.Runtime.All() {
			for _, c := range rt.Containers {
				if w.probed == nil || c.State != model.ContainerRunning {
					continue
				}
				if seen[c.ID].IsZero() {
					seen[c.ID] = time.Now()
				}
				if left := time.Until(seen[c.ID].Add(time.Second)); left > 0 {
					wait = min(wait, left)
					continue
				}
				key := model.ProbeKey{PodUID: uid, Container: c.Name, Type: model.Readiness}
				writers.Probes.Set(key, &model.Probe{ProbeKey: key, ContainerID: c.ID, Verdict: w.probed(c)})
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-snap.Changed():
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

func runs(rt *model.PodRuntime) bool {
	return rt != nil && slices.ContainsFunc(rt.Containers, func(c model.Container) bool { return c.State == model.ContainerRunning })
}

func (w *world) ensureCgroup(*corev1.Pod) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cgroups++
	if w.cgroup == nil {
		return nil
	}
	return w.cgroup(w.cgroups)
}

// The API server.

// put creates or changes a pod.
func (w *world) put(pod *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(pod.DeepCopy())
}

func (w *world) set(pod *corev1.Pod) {
	w.version++
	pod.ResourceVersion = strconv.Itoa(w.version)
	uid := model.UID(pod.UID)
	w.pods[uid] = pod
	w.tell()
	if w.writers != nil {
		w.writers.Pods.Set(uid, pod)
	}
}

func (w *world) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) get(uid model.UID) *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pods[uid]
}

// edit changes the present version of a pod.
func (w *world) edit(uid model.UID, change func(*corev1.Pod)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if pod := w.pods[uid]; pod != nil {
		pod = pod.DeepCopy()
		change(pod)
		w.set(pod)
	}
}

// delete asks for the deletion of a pod as kubectl does.
func (w *world) delete(uid model.UID, grace int64) {
	w.edit(uid, func(pod *corev1.Pod) {
		at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second))
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &at, &grace
		pod.Generation++
	})
}

func (w *world) remove(uid model.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pods, uid)
	w.tell()
	if w.writers != nil {
		w.writers.Pods.Delete(uid)
	}
}

var resource = schema.GroupResource{Resource: "pods"}

func (w *world) write() error {
	w.writes++
	if w.refuse != nil {
		return w.refuse(w.writes)
	}
	return nil
}

// PatchPodStatus is API.PatchPodStatus.
func (w *world) PatchPodStatus(ctx context.Context, key model.Key, uid model.UID, patch []byte) (*corev1.Pod, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := cmpErr(ctx.Err(), w.write()); err != nil {
		return nil, err
	}
	pod := w.pods[uid]
	if pod == nil {
		return nil, apierrors.NewNotFound(resource, key.Name)
	}
	before, _ := json.Marshal(corev1.Pod{Status: pod.Status})
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Pod{})
	if err != nil {
		return nil, err
	}
	var patched corev1.Pod
	if err := json.Unmarshal(after, &patched); err != nil {
		return nil, err
	}
	if patched.UID != types.UID(uid) {
		return nil, apierrors.NewConflict(resource, key.Name, fmt.Errorf("uid %q", patched.UID))
	}
	next := pod.DeepCopy()
	next.Status = patched.Status
	w.history[uid] = append(w.history[uid], next.Status)
	w.set(next)
	return next, nil
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// DeletePod is API.DeletePod.
func (w *world) DeletePod(ctx context.Context, key model.Key, uid model.UID) error {
	w.mu.Lock()
	err := cmpErr(ctx.Err(), w.write())
	_, ok := w.pods[uid]
	w.mu.Unlock()
	switch {
	case err != nil:
		return err
	case !ok:
		return apierrors.NewNotFound(resource, key.Name)
	}
	w.remove(uid)
	return nil
}

// Event is Events.Event.
func (w *world) Event(ref corev1.ObjectReference, kind, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s %s %s: %s", ref.Name, kind, reason, message))
}

// await waits until something is true, looking every 2 ms or oftener than a 10000th of the limit, and fails with the whole state when it does not become so.
func (w *world) await(what string, limit time.Duration, true func() bool) {
	w.t.Helper()
	step := max(2*time.Millisecond, limit/10000)
	for end := time.Now().Add(limit); !true(); time.Sleep(step) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within %s\n%s", what, limit, w)
		}
	}
}

// String is the whole state.
func (w *world) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.runtime.String()
	for _, uid := range slices.Sorted(maps.Keys(w.pods)) {
		raw, _ := json.MarshalIndent(w.pods[uid].Status, "", " ")
		s += fmt.Sprintf("\npod %s: %s", uid, raw)
	}
	for _, e := range w.events {
		s += "\nevent " + e
	}
	return s
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("%s", p)
	return len(p), nil
}

func pod(name string, containers ...corev1.Container) *corev1.Pod {
	grace := int64(2)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "ns", UID: types.UID("uid-" + name), Generation: 1,
			CreationTimestamp: metav1.Now(),
		},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace, DNSPolicy: corev1.DNSDefault},
	}
	for i := range containers {
		if containers[i].Image == "" {
			containers[i].Image = "image:1"
		}
	}
	p.Spec.Containers = containers
	return p
}

func condition(pod *corev1.Pod, t corev1.PodConditionType) corev1.ConditionStatus {
	if pod != nil {
		for _, c := range pod.Status.Conditions {
			if c.Type == t {
				return c.Status
			}
		}
	}
	return corev1.ConditionUnknown
}
