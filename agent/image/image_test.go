package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/image/imageplan"
	"nodelet/cri"
	"nodelet/cri/critest"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// world is a runtime in memory with an image part on it.
type world struct {
	t       *testing.T
	server  *critest.Server
	store   *store.Store
	w       *store.Writers
	images  *Images
	runtime *recorder
	start   time.Time

	mu     sync.Mutex
	events []string
}

// recorder notes the pulls that reach the runtime.
type recorder struct {
	Runtime
	mu    sync.Mutex
	pulls []string
	begun time.Time
	// refuse is asked about each pull's user.
	refuse func(user string) error
}

func (r *recorder) PullImage(ctx context.Context, req *runtimev1.PullImageRequest) (*runtimev1.PullImageResponse, error) {
	r.mu.Lock()
	user := req.GetAuth().GetUsername()
	r.pulls = append(r.pulls, strings.TrimSpace(fmt.Sprintf("%s %s %s", time.Since(r.begun).Round(time.Second), req.GetImage().GetImage(), user)))
	r.mu.Unlock()
	if r.refuse != nil {
		if err := r.refuse(user); err != nil {
			return nil, err
		}
	}
	return r.Runtime.PullImage(ctx, req)
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.pulls)
}

func (w *world) Event(ref corev1.ObjectReference, kind, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s%s %s %s: %s", ref.Name, strings.TrimPrefix(ref.FieldPath, "spec.containers"), kind, reason, message))
}

func (w *world) told(text string) int {
	synctest.Wait() // events come after the table
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if strings.Contains(e, text) {
			n++
		}
	}
	return n
}

// run runs a test in a bubble, with an image part that runs until its end.
func run(t *testing.T, c critest.Config, test func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		if c.FaultRate == 0 {
			c.FaultRate = -1
		}
		w := &world{t: t, server: critest.New(c), start: time.Now()}
		w.store, w.w = store.New()
		w.runtime = &recorder{Runtime: w.server.Runtime(cri.Deps{}), begun: w.start}
		var err error
		w.images, err = New(Config{Parallel: 2}, Deps{
			Store: w.store, Images: w.w.Images, Runtime: w.runtime, Events: w, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.images.Run(ctx) }()
		synctest.Wait()
		test(t, w)
		cancel()
		<-done
		w.server.Close()
	})
}

// Registries are asked no oftener than they are to be: what goes beyond waits, and does not fail.
func TestPullsAreSpread(t *testing.T) {
	run(t, critest.Config{}, func(t *testing.T, w *world) {
		limited, err := New(Config{PullsPerSecond: 1, Burst: 2}, w.images.deps)
		if err != nil {
			t.Fatal(err)
		}
		w.images.rate = limited.rate
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p"}}
		for _, name := range []string{"a", "b", "c", "d"} {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name, Image: name + ":1"})
		}
		w.w.Pods.Replace(map[model.UID]*corev1.Pod{"p": pod})
		for _, name := range []string{"a", "b", "c", "d"} {
			w.images.Ensure(t.Context(), Request{Pod: pod, Container: name, Image: name + ":1", Policy: corev1.PullIfNotPresent})
		}
		time.Sleep(time.Minute)
		var at []string
		for _, pull := range w.runtime.all() {
			when, _, _ := strings.Cut(pull, " ")
			at = append(at, when)
		}
		if got := strings.Join(at, " "); got != "0s 0s 1s 2s" {
			t.Errorf("pulls at %s", got)
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			if row, _ := w.store.Snapshot().Images.Get(model.ImageRef(name + ":1")); row == nil || row.ID == "" {
				t.Errorf("%s: %v", name, row)
			}
		}
	})
}

// What the node itself can log in with comes after what the pod brings.
func TestNodeLogins(t *testing.T) {
	run(t, critest.Config{}, func(t *testing.T, w *world) {
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, []byte(`{"auths":{"private.test":{"username":"of-file","password":"x"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		w.images.cfg.LoginFile = file
		w.images.deps.Logins = func(context.Context, string) []imageplan.Login {
			return []imageplan.Login{{Place: "private.test", Auth: imageplan.Auth{Username: "of-plugin"}}, {Place: "other.test", Auth: imageplan.Auth{Username: "of-other"}}}
		}
		w.runtime.refuse = func(user string) error {
			if user != "of-plugin" {
				return errors.New("denied")
			}
			return nil
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p"}}
		pod.Spec.Containers = []corev1.Container{{Name: "c", Image: "private.test/a:1"}}
		w.w.Pods.Replace(map[model.UID]*corev1.Pod{"p": pod})
		w.images.Ensure(t.Context(), Request{Pod: pod, Container: "c", Image: "private.test/a:1", Policy: corev1.PullIfNotPresent})
		synctest.Wait()
		if got, want := w.runtime.all(), []string{"0s private.test/a:1 of-file", "0s private.test/a:1 of-plugin"}; !slices.Equal(got, want) {
			t.Errorf("pulls %q, want %q", got, want)
		}
		if w.told("Successfully pulled image") != 1 {
			t.Errorf("events %q", w.events)
		}
	})
}

// want is one start of a container that needs an image.
type want struct {
	pod     string
	image   string
	policy  corev1.PullPolicy
	attempt uint32
	secrets []string
}

func (n want) request() Request {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: n.pod, Namespace: "ns", UID: types.UID("uid-" + n.pod)}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: n.image}}
	for _, s := range n.secrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	return Request{Pod: pod, Container: "c", Attempt: n.attempt, Image: n.image, Policy: n.policy}
}

func (w *world) decide(n want) imageplan.Verdict {
	r := n.request()
	snap := w.store.Snapshot()
	row, _ := snap.Images.Get(model.ImageRef(n.image))
	return imageplan.Decide(row, imageplan.Need{
		Image: n.image, Policy: n.policy, Attempt: n.attempt,
		Credentials: imageplan.Credentials(r.Pod, n.image, snap.Configs.Get).Key,
		Container:   model.ContainerKey{PodUID: model.UID(r.Pod.UID), Name: "c"},
	}, time.Now())
}

// plan does what the agent does, until the container may start or the time is up.
func (w *world) plan(n want, limit time.Duration) imageplan.Verdict {
	end := time.After(limit)
	for {
		changed := w.store.Snapshot().Changed()
		v := w.decide(n)
		if v.State == model.ImagePresent {
			return v
		}
		if v.Ask {
			w.images.Ensure(w.t.Context(), n.request())
		}
		var again <-chan time.Time
		if !v.Again.IsZero() {
			again = time.After(time.Until(v.Again))
		}
		select {
		case <-changed:
		case <-again:
		case <-end:
			return v
		}
	}
}

func (w *world) secret(name, place, user string) {
	key := model.ConfigKey{Kind: model.Secret, Key: model.Key{Namespace: "ns", Name: name}}
	w.w.Configs.Set(key, &model.Config{ConfigKey: key, ResourceVersion: "1", Data: map[string][]byte{
		corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths": {%q: {"username": %q, "password": "p"}}}`, place, user),
	}})
}

func (w *world) pulls(want ...string) {
	w.t.Helper()
	synctest.Wait()
	if got := w.runtime.all(); !slices.Equal(got, want) {
		w.t.Errorf("pulls %q, want %q\n%s", got, want, w.server)
	}
}

func TestIfNotPresent(t *testing.T) {
	run(t, critest.Config{Images: []string{"here:latest"}}, func(t *testing.T, w *world) {
		if v := w.plan(want{pod: "a", image: "here", policy: corev1.PullIfNotPresent}, time.Minute); v.ID == "" {
			t.Fatalf("got %+v", v)
		}
		w.pulls()
		if w.told(`a{c} Normal Pulled: Container image "here" already present on machine`) != 1 {
			t.Errorf("events %q", w.events)
		}
		v := w.plan(want{pod: "a", image: "there:1", policy: corev1.PullIfNotPresent}, time.Minute)
		if v.State != model.ImagePresent || !strings.HasPrefix(v.ID, "sha256:") {
			t.Fatalf("got %+v", v)
		}
		w.pulls("0s there:1")
		for _, text := range []string{`a{c} Normal Pulling: Pulling image "there:1"`, `a{c} Normal Pulled: Successfully pulled image "there:1" in `} {
			if w.told(text) != 1 {
				t.Errorf("not told %q: %q", text, w.events)
			}
		}
	})
}

func TestPullsOfOneImageAreOne(t *testing.T) {
	run(t, critest.Config{Latency: map[string]time.Duration{"PullImage": 5 * time.Second}}, func(t *testing.T, w *world) {
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				if v := w.plan(want{pod: fmt.Sprint(i), image: "x", policy: corev1.PullIfNotPresent}, time.Minute); v.State != model.ImagePresent {
					t.Errorf("got %+v", v)
				}
			})
		}
		all.Wait()
		w.pulls("0s x:latest")
	})
}

func TestAlwaysIsOncePerStart(t *testing.T) {
	run(t, critest.Config{Images: []string{"x:latest"}, Latency: map[string]time.Duration{"PullImage": time.Second}}, func(t *testing.T, w *world) {
		for _, n := range []want{
			{pod: "a", image: "x", policy: corev1.PullAlways},
			{pod: "a", image: "x", policy: corev1.PullAlways}, // asked again for the same start
			{pod: "a", image: "x", policy: corev1.PullAlways, attempt: 1},
			{pod: "b", image: "x", policy: corev1.PullAlways},
			{pod: "c", image: "x", policy: corev1.PullIfNotPresent},
		} {
			if v := w.plan(n, time.Minute); v.State != model.ImagePresent {
				t.Fatalf("%+v: %+v", n, v)
			}
		}
		w.pulls("0s x:latest", "1s x:latest", "2s x:latest")
	})
}

func TestNever(t *testing.T) {
	run(t, critest.Config{}, func(t *testing.T, w *world) {
		n := want{pod: "a", image: "x:1", policy: corev1.PullNever}
		v := w.plan(n, time.Second)
		if v.Reason != imageplan.ErrImageNeverPull {
			t.Fatalf("got %+v", v)
		}
		if w.told("a{c} Warning ErrImageNeverPull: Container image") != 1 {
			t.Errorf("events %q", w.events)
		}
		// Another pod may pull it, and then it is there for both.
		w.plan(want{pod: "b", image: "x:1", policy: corev1.PullIfNotPresent}, time.Minute)
		if v := w.plan(n, time.Minute); v.State != model.ImagePresent {
			t.Fatalf("got %+v", v)
		}
		w.pulls("1s x:1")
	})
}

func TestBackoff(t *testing.T) {
	fail := errors.New("no such host")
	run(t, critest.Config{Pull: func(string) error { return fail }}, func(t *testing.T, w *world) {
		n := want{pod: "a", image: "x:1", policy: corev1.PullIfNotPresent}
		if v := w.plan(n, time.Second); v.Reason != imageplan.ErrImagePull || !strings.Contains(v.Message, "no such host") {
			t.Errorf("at first: %+v", v)
		}
		if v := w.plan(n, 1000*time.Second-time.Second); v.Reason != imageplan.ImagePullBackOff {
			t.Errorf("later: %+v", v)
		}
		w.pulls("0s x:1", "10s x:1", "30s x:1", "1m10s x:1", "2m30s x:1", "5m10s x:1", "10m10s x:1", "15m10s x:1")
		fail = nil
		if v := w.plan(n, time.Hour); v.State != model.ImagePresent {
			t.Errorf("at last: %+v", v)
		}
		if row, _ := w.store.Snapshot().Images.Get("x:1"); row.Pulls[""].Attempts != 0 {
			t.Errorf("failures are counted on: %+v", row)
		}
	})
}

// A pull whose answer is lost has done its work: nobody waits for a back-off.
func TestPullWhoseAnswerIsLost(t *testing.T) {
	run(t, critest.Config{}, func(t *testing.T, w *world) {
		w.server.Inject(critest.Fault{Op: "PullImage", Kind: critest.Lose})
		if v := w.plan(want{pod: "a", image: "x:1", policy: corev1.PullIfNotPresent}, time.Second); v.State != model.ImagePresent {
			t.Errorf("got %+v", v)
		}
		w.pulls("0s x:1")
	})
}

func TestInvalidName(t *testing.T) {
	run(t, critest.Config{}, func(t *testing.T, w *world) {
		v := w.plan(want{pod: "a", image: "Bad Name", policy: corev1.PullAlways}, time.Hour)
		if v.Reason != imageplan.InvalidImageName || !strings.Contains(v.Message, `couldn't parse image name "Bad Name"`) {
			t.Fatalf("got %+v", v)
		}
		if calls := w.server.Calls(); len(calls) != 0 || w.told("InspectFailed") != 1 {
			t.Errorf("calls %v, events %q", calls, w.events)
		}
	})
}

func TestImageThatDisappears(t *testing.T) {
	run(t, critest.Config{}, func(t *testing.T, w *world) {
		n := want{pod: "a", image: "x:1", policy: corev1.PullIfNotPresent}
		w.plan(n, time.Minute)
		synctest.Wait() // the loop looks once more after the pull
		if _, err := w.runtime.Runtime.(*cri.Client).RemoveImage(t.Context(), &runtimev1.RemoveImageRequest{Image: &runtimev1.ImageSpec{Image: "x:1"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if v := w.plan(n, time.Minute); v.State != model.ImagePresent {
			t.Fatalf("got %+v", v)
		}
		w.pulls("0s x:1", "1m0s x:1")
	})
}

func TestSlowPullsAreBoundedAndDelayNoLook(t *testing.T) {
	run(t, critest.Config{Images: []string{"here:1"}, Latency: map[string]time.Duration{"PullImage": 10 * time.Second}}, func(t *testing.T, w *world) {
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				w.plan(want{pod: "p", image: fmt.Sprintf("x%d:1", i), policy: corev1.PullIfNotPresent}, time.Minute)
			})
		}
		time.Sleep(time.Second)
		before := time.Now()
		w.plan(want{pod: "q", image: "here:1", policy: corev1.PullIfNotPresent}, time.Minute)
		if took := time.Since(before); took > 100*time.Millisecond {
			t.Errorf("a look at an image that is there took %s", took)
		}
		all.Wait()
		if took := time.Since(w.start).Round(time.Second); took != 20*time.Second {
			t.Errorf("4 pulls of 10 s, 2 at a time, took %s", took)
		}
	})
}

func TestSecrets(t *testing.T) {
	run(t, critest.Config{}, func(t *testing.T, w *world) {
		w.runtime.refuse = func(user string) error {
			if user != "right" {
				return errors.New("denied")
			}
			return nil
		}
		n := want{pod: "a", image: "example.com/x:1", policy: corev1.PullAlways, secrets: []string{"s", "missing"}}
		key := model.ConfigKey{Kind: model.Secret, Key: model.Key{Namespace: "ns", Name: "missing"}}
		w.w.Configs.Set(key, &model.Config{ConfigKey: key, Missing: true})
		w.images.Ensure(t.Context(), n.request())
		synctest.Wait()
		w.pulls() // the secret has not been read yet
		w.secret("s", "example.com", "right")
		if v := w.plan(n, time.Minute); v.State != model.ImagePresent {
			t.Fatalf("got %+v", v)
		}
		if w.told(`image pull secret "missing" not found`) != 1 {
			t.Errorf("events %q", w.events)
		}
		// A pod without the secret may not, though the image is there, and the other still may.
		other := want{pod: "b", image: "example.com/x:1", policy: corev1.PullAlways}
		if v := w.plan(other, time.Second); v.State != model.ImageFailed || !strings.Contains(v.Message, "denied") {
			t.Fatalf("got %+v", v)
		}
		n.attempt = 1
		if v := w.plan(n, time.Minute); v.State != model.ImagePresent {
			t.Fatalf("got %+v", v)
		}
		// The most exact one first, then the others.
		w.secret("t", "example.com/x", "wrong")
		both := want{pod: "c", image: "example.com/x:1", policy: corev1.PullAlways, secrets: []string{"s", "t"}}
		if v := w.plan(both, time.Minute); v.State != model.ImagePresent {
			t.Fatalf("got %+v", v)
		}
		w.pulls("0s example.com/x:1 right", "0s example.com/x:1", "1s example.com/x:1 right", "1s example.com/x:1 wrong", "1s example.com/x:1 right")
	})
}

func TestRowsOfImagesNobodyNamesGo(t *testing.T) {
	run(t, critest.Config{}, func(t *testing.T, w *world) {
		a, b := want{pod: "a", image: "a:1", policy: corev1.PullAlways}, want{pod: "b", image: "b:1", policy: corev1.PullAlways}
		v := want{pod: "b", image: "volume:1", policy: corev1.PullAlways}
		pods := map[model.UID]*corev1.Pod{"uid-a": a.request().Pod, "uid-b": b.request().Pod}
		pods["uid-b"].Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "volume:1"}}}}
		w.w.Pods.Replace(pods)
		for _, n := range []want{a, v, b} {
			w.plan(n, time.Minute)
		}
		delete(pods, "uid-a")
		w.w.Pods.Replace(pods)
		b.attempt = 1
		w.plan(b, time.Minute)
		synctest.Wait()
		if _, ok := w.store.Snapshot().Images.Get("a:1"); ok || w.store.Snapshot().Images.Len() != 2 {
			t.Errorf("%d rows", w.store.Snapshot().Images.Len())
		}
	})
}

// With one call in three going wrong, everybody gets the image in the end.
func TestFaults(t *testing.T) {
	for seed := range uint64(20) {
		run(t, critest.Config{Seed: seed, FaultRate: 0.35}, func(t *testing.T, w *world) {
			var all sync.WaitGroup
			for i, policy := range []corev1.PullPolicy{corev1.PullIfNotPresent, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullAlways} {
				all.Go(func() {
					n := want{pod: fmt.Sprint(i), image: fmt.Sprintf("x%d:1", i%3), policy: policy}
					if v := w.plan(n, 24*time.Hour); v.State != model.ImagePresent {
						t.Errorf("seed %d, %+v: %+v", seed, n, v)
					}
				})
			}
			all.Wait()
		})
	}
}
