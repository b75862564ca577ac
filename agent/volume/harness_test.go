package volume

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"nodelet/agent/volume/csi"
	"nodelet/agent/volume/mount"
	"nodelet/internal/model"
	"nodelet/internal/mounttest"
	"nodelet/internal/store"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childRoot); dir != "" {
		child(dir)
	}
	os.Exit(mounttest.Main(m))
}

// uid makes a UID as the API server does, ending in n.
func uid(n int) model.UID { return model.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)) }

// world is a store with a volume part on a directory of its own.
type world struct {
	t      testing.TB
	root   string
	store  *store.Store
	w      *store.Writers
	tokens *tokens
	events *events
	v      *Volumes
	stop   func()
	// removed has how the removals of pods went that are gone.
	removed chan string
	// csi, when set before boot, serves the volumes of drivers.
	csi *csi.Volumes
	// certificates, when set before boot, issues certificates for pods.
	certificates Certificates
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{}
	w.init(t)
	return w
}

func (w *world) init(t testing.TB) {
	t.Helper()
	mounttest.NeedRoot(t)
	w.t, w.root, w.tokens, w.events, w.removed = t, t.TempDir(), &tokens{life: time.Hour}, &events{}, make(chan string, 64)
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		w.halt()
		goleak.VerifyNone(t, leaks)
		if err := mount.UnmountBelow(w.root); err != nil {
			t.Error(err)
		}
	})
	w.boot()
}

// boot starts the part as after a start of the daemon: with an empty store.
func (w *world) boot() {
	w.t.Helper()
	w.halt()
	w.store, w.w = store.New()
	v, err := New(Config{Root: w.root, NodeName: "node-1"}, Deps{
		Store: w.store, Volumes: w.w.Volumes, Tokens: w.tokens, Certificates: w.certificates, Events: w.events, CSI: w.csi,
		Allocatable: func() corev1.ResourceList {
			return corev1.ResourceList{"memory": resource.MustParse("64Mi"), "cpu": resource.MustParse("2")}
		},
		Rejected: func(reason string) { w.events.Event(corev1.ObjectReference{Name: "metric"}, "", "rejected", reason) },
		Removed:  func(uid string, err error) { w.removed <- fmt.Sprint(uid, " ", err) },
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.v = v
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// sync makes Pods and Runtime hold exactly these, and be synced.
func (w *world) sync(pods ...*corev1.Pod) {
	all := map[model.UID]*corev1.Pod{}
	for _, p := range pods {
		all[model.UID(p.UID)] = p
	}
	w.w.Runtime.Replace(maps.Collect(w.store.Snapshot().Runtime.All()))
	w.w.Pods.Replace(all)
}

// config puts a ConfigMap, or with a name like "Secret/x" a Secret; nil data means that it is missing.
func (w *world) config(name string, data map[string]string) {
	key := model.ConfigKey{Key: model.Key{Namespace: "ns", Name: name}}
	if n, ok := strings.CutPrefix(name, "Secret/"); ok {
		key.Kind, key.Key.Name = model.Secret, n
	}
	c := &model.Config{ConfigKey: key, Missing: data == nil, ResourceVersion: fmt.Sprint(w.store.Snapshot().Revision), Data: map[string][]byte{}}
	for k, v := range data {
		c.Data[k] = []byte(v)
	}
	w.w.Configs.Set(key, c)
}

// runtime says that the pod has one container in this state.
func (w *world) runtime(u model.UID, state model.ContainerState) {
	w.w.Runtime.Set(u, &model.PodRuntime{UID: u, Containers: []model.Container{{ID: "c", Name: "c", State: state}}})
}

// await waits until the row of a pod is as wanted; ok is false where there is none.
func (w *world) await(u model.UID, what string, want func(row *model.PodVolumes, ok bool) bool) *model.PodVolumes {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		snap := w.store.Snapshot()
		row, ok := snap.Volumes.Get(u)
		if want(row, ok) {
			return row
		}
		select {
		case <-snap.Changed():
		case <-deadline:
			w.t.Fatalf("pod %s never became %s: %v %t\n%s", u, what, row, ok, tree(w.root))
		}
	}
}

func (w *world) ready(u model.UID) *model.PodVolumes {
	w.t.Helper()
	return w.await(u, "ready", func(r *model.PodVolumes, ok bool) bool { return ok && r.State == model.VolumesReady })
}

func (w *world) gone(u model.UID) {
	w.t.Helper()
	w.await(u, "gone", func(_ *model.PodVolumes, ok bool) bool { return !ok && w.store.Snapshot().Volumes.Synced() })
}

func (w *world) says(u model.UID, state model.VolumesState, message string) *model.PodVolumes {
	w.t.Helper()
	return w.await(u, fmt.Sprintf("%s with %q", state, message), func(r *model.PodVolumes, ok bool) bool {
		return ok && r.State == state && strings.Contains(r.Message, message)
	})
}

// look looks at a pod once more, after whatever look is under way.
func (w *world) look(u model.UID) {
	w.t.Helper()
	if _, err := w.v.sync(w.t.Context(), u, w.store.Snapshot()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mounts() []string {
	w.t.Helper()
	m, err := mount.Below(w.root)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) read(path string) string {
	w.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatalf("%v\n%s", err, tree(w.root))
	}
	return string(data)
}

func (w *world) overwrite(path, text string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func tree(root string) string {
	var b strings.Builder
	filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil {
			fmt.Fprintln(&b, d.Type(), path)
		}
		return nil
	})
	return b.String()
}

// parsePod makes a pod with these volumes, all mounted by container c.
func parsePod(t testing.TB, n int, volumes string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	text := fmt.Sprintf("metadata: {name: p%d, namespace: ns, uid: %s, resourceVersion: \"1\", labels: {a: b}}\nspec:\n  containers: [{name: c}]\n  volumes:\n%s", n, uid(n), volumes)
	if err := yaml.UnmarshalStrict([]byte(text), pod); err != nil {
		t.Fatal(err)
	}
	for _, v := range pod.Spec.Volumes {
		pod.Spec.Containers[0].VolumeMounts = append(pod.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
	}
	return pod
}

// tokens issues tokens like the API server's, unsigned.
type tokens struct {
	mu     sync.Mutex
	life   time.Duration
	age    time.Duration
	refuse bool
	// forbid is how many requests are refused as the API server's authorizer does.
	forbid int
	// block makes requests for pods of that name wait for their context.
	block string
	// hangs is told of each that begins to wait; may be nil.
	hangs chan struct{}
	count int
}

func (k *tokens) CreateToken(ctx context.Context, sa model.Key, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	k.mu.Lock()
	blocked, hangs := k.block == r.Spec.BoundObjectRef.Name, k.hangs
	k.mu.Unlock()
	if blocked {
		select {
		case hangs <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.forbid > 0 {
		k.forbid--
		return nil, forbidden()
	}
	if k.refuse {
		return nil, errors.New("the API server is away")
	}
	k.count++
	at := time.Now().Add(-k.age)
	claims, err := json.Marshal(map[string]any{
		"aud": r.Spec.Audiences, "iat": at.Unix(), "exp": at.Add(k.life).Unix(), "jti": k.count,
		"kubernetes.io": map[string]any{
			"namespace": sa.Namespace, "serviceaccount": map[string]any{"name": sa.Name},
			"pod": map[string]any{"uid": r.Spec.BoundObjectRef.UID},
		},
	})
	if err != nil {
		return nil, err
	}
	out := r.DeepCopy()
	out.Status.Token = "h." + base64.RawURLEncoding.EncodeToString(claims) + ".s"
	return out, nil
}

func (k *tokens) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *tokens) issued() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) Event(ref corev1.ObjectReference, kind, reason, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, fmt.Sprintf("%s %s %s: %s", ref.Name, kind, reason, message))
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.all, "\n")
}
