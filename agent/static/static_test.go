package static

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/podstatus"
	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a node with an API server that knows its mirror pods.
type world struct {
	*testing.T
	cfg     Config
	store   *store.Store
	writers *store.Writers
	static  *Static
	stop    func()

	mu   sync.Mutex
	made int
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{T: t, cfg: Config{NodeName: "n", Path: filepath.Join(dir, "manifests"), Record: filepath.Join(dir, "record.json"), FileCheck: time.Hour}}
	if err := os.Mkdir(w.cfg.Path, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kill)
	return w
}

// start runs a daemon with nothing in its memory; the API server is not there yet.
func (w *world) start() {
	w.store, w.writers = store.New()
	var err error
	w.static, err = New(w.cfg, Deps{Store: w.store, Pods: w.writers.Pods, API: w, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.static.Run(ctx)
	}()
	w.stop = func() { cancel(); <-done }
}

func (w *world) kill() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// connect lets the API server come up with the node registered.
func (w *world) connect() {
	w.writers.Nodes.Replace(map[model.Key]*model.Node{{Name: "n"}: {Name: "n", UID: "node-uid"}})
	w.writers.Mirrors.Replace(nil)
	w.writers.Pods.Commit(func(tx *store.Tx[model.UID, *corev1.Pod]) { tx.Synced() })
}

func (w *world) CreatePod(_ context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.store.Snapshot().Mirrors.All() {
		if m.Name == pod.Name {
			return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "pods"}, pod.Name)
		}
	}
	w.made++
	out := pod.DeepCopy()
	out.UID, out.ResourceVersion = types.UID("mirror-"+string(rune('0'+w.made))), "1"
	w.writers.Mirrors.Set(model.UID(out.UID), out)
	return out, nil
}

func (w *world) PatchPodStatus(_ context.Context, _ model.Key, uid model.UID, patch []byte) (*corev1.Pod, error) {
	m, ok := w.store.Snapshot().Mirrors.Get(uid)
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, uid.String())
	}
	out, err := podstatus.Apply(m, patch)
	if err != nil {
		return nil, err
	}
	out.ResourceVersion += "1"
	w.writers.Mirrors.Set(uid, out)
	return out, nil
}

func (w *world) DeletePod(_ context.Context, _ model.Key, uid model.UID) error {
	w.writers.Mirrors.Delete(uid)
	return nil
}

// await waits until the store says so.
func (w *world) await(what string, ok func(*store.Snapshot) bool) {
	w.Helper()
	timeout := time.After(10 * time.Second)
	for snap := w.store.Snapshot(); !ok(snap); snap = w.store.Snapshot() {
		select {
		case <-snap.Changed():
		case <-timeout:
			for _, p := range snap.Pods.All() {
				w.Logf("pod %s %s deletion %v", p.Name, p.UID, p.DeletionTimestamp)
			}
			for _, p := range snap.Mirrors.All() {
				w.Logf("mirror %s %s of %s", p.Name, p.UID, p.Annotations[corev1.MirrorPodAnnotationKey])
			}
			w.Fatalf("%s did not come true", what)
		}
	}
}

func (w *world) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.cfg.Path, name), []byte(text), 0o644); err != nil {
		w.Fatal(err)
	}
}

func (w *world) remove(name string) {
	w.Helper()
	if err := os.Remove(filepath.Join(w.cfg.Path, name)); err != nil {
		w.Fatal(err)
	}
}

func web(image string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {terminationGracePeriodSeconds: 7, containers: [{name: c, image: " + image + "}]}\n"
}

func find(snap *store.Snapshot, name string) *corev1.Pod {
	return named(snap.Pods, model.Key{Namespace: "default", Name: name}, podref.IsStatic)
}

func mirror(snap *store.Snapshot, name string) *corev1.Pod {
	return named(snap.Mirrors, model.Key{Namespace: "default", Name: name}, podref.IsMirror)
}

func status(w *world, pod *corev1.Pod, phase corev1.PodPhase) {
	w.Helper()
	patch, err := podstatus.Patch(pod, &corev1.PodStatus{Phase: phase})
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.static.PatchPodStatus(context.Background(), keyOf(pod), model.UID(pod.UID), patch); err != nil {
		w.Fatal(err)
	}
}

// The life of a static pod: taken without an API server, shown when there is
// one, shown again when somebody deletes the image, replaced only when the old one is gone, ended with its file.
func TestLife(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.write(".hidden.yaml", web("hidden"))
	w.write("web.yaml", web("one"))
	w.await("the pod is taken", func(s *store.Snapshot) bool { return find(s, "web-n") != nil })
	first := find(w.store.Snapshot(), "web-n")
	if first.Spec.Containers[0].Image != "one" || w.store.Snapshot().Pods.Len() != 1 || w.store.Snapshot().Mirrors.Len() != 0 {
		t.Fatalf("pod %+v", first)
	}
	status(w, first, corev1.PodRunning)

	w.connect()
	w.await("the image runs", func(s *store.Snapshot) bool {
		m := mirror(s, "web-n")
		return m != nil && m.Status.Phase == corev1.PodRunning && m.Annotations[corev1.MirrorPodAnnotationKey] == string(first.UID)
	})
	image := mirror(w.store.Snapshot(), "web-n")
	deleted := image.DeepCopy()
	now := metav1.Now()
	deleted.DeletionTimestamp, deleted.ResourceVersion = &now, "deleted"
	w.writers.Mirrors.Set(model.UID(image.UID), deleted)
	w.await("another image", func(s *store.Snapshot) bool {
		m := mirror(s, "web-n")
		return m != nil && m.UID != image.UID && m.Status.Phase == corev1.PodRunning
	})

	w.write("web.yaml", web("two"))
	w.await("the old one ends", func(s *store.Snapshot) bool {
		p := find(s, "web-n")
		return p.UID == first.UID && p.DeletionTimestamp != nil && *p.DeletionGracePeriodSeconds == 7
	})
	if mirror(w.store.Snapshot(), "web-n") == nil {
		t.Error("the image is gone before the pod is")
	}
	if err := w.static.DeletePod(context.Background(), keyOf(first), model.UID(first.UID)); err != nil {
		t.Fatal(err)
	}
	w.await("the new one and its image", func(s *store.Snapshot) bool {
		p, m := find(s, "web-n"), mirror(s, "web-n")
		return p != nil && p.Spec.Containers[0].Image == "two" && m != nil && m.Annotations[corev1.MirrorPodAnnotationKey] == string(p.UID)
	})

	w.remove("web.yaml")
	w.await("it ends", func(s *store.Snapshot) bool { return find(s, "web-n").DeletionTimestamp != nil })
	second := find(w.store.Snapshot(), "web-n")
	if err := w.static.DeletePod(context.Background(), keyOf(second), model.UID(second.UID)); err != nil {
		t.Fatal(err)
	}
	w.await("nothing is left", func(s *store.Snapshot) bool { return s.Pods.Len() == 0 && s.Mirrors.Len() == 0 })
}

// A manifest that cannot be read leaves its pod and all others as they are.
func TestBadManifest(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.write("web.yaml", web("one"))
	w.await("the pod is taken", func(s *store.Snapshot) bool { return find(s, "web-n") != nil })
	w.write("web.yaml", "kind: {{ oops }}")
	w.write("more.yaml", strings.Replace(web("more"), "name: web", "name: more", 1))
	w.await("the other pod is taken", func(s *store.Snapshot) bool { return find(s, "more-n") != nil })
	if p := find(w.store.Snapshot(), "web-n"); p.DeletionTimestamp != nil {
		t.Error("a typing error ended the pod")
	}
	w.kill()
	w.start()
	if p := find(w.store.Snapshot(), "web-n"); p == nil || p.DeletionTimestamp != nil {
		t.Error("a typing error and a restart ended the pod")
	}
}

// A daemon that starts again knows its pods before anybody asks, with their
// status; one whose manifest went meanwhile ends in order.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", web("one"))
	w.start()
	p := find(w.store.Snapshot(), "web-n")
	status(w, p, corev1.PodRunning)
	w.kill()

	w.start()
	if again := find(w.store.Snapshot(), "web-n"); again == nil || again.UID != p.UID || again.Status.Phase != corev1.PodRunning {
		t.Fatalf("after a restart: %+v", again)
	}
	w.kill()
	w.remove("web.yaml")
	w.start()
	if again := find(w.store.Snapshot(), "web-n"); again == nil || again.UID != p.UID || again.DeletionTimestamp == nil {
		t.Fatalf("after its manifest went: %+v", again)
	}
	w.kill()
	if err := os.WriteFile(w.cfg.Record, []byte("{damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.write("web.yaml", web("one"))
	w.start()
	if again := find(w.store.Snapshot(), "web-n"); again == nil || again.UID != p.UID {
		t.Fatalf("with a damaged record: %+v", again)
	}
}

// The directory may come late, go and come again.
func TestDirectoryComesAndGoes(t *testing.T) {
	w := newWorld(t)
	w.cfg.FileCheck = 20 * time.Millisecond
	if err := os.Remove(w.cfg.Path); err != nil {
		t.Fatal(err)
	}
	w.start()
	for range 2 {
		if err := os.Mkdir(w.cfg.Path, 0o755); err != nil {
			t.Fatal(err)
		}
		w.write("web.yaml", web("one"))
		w.await("the pod is taken", func(s *store.Snapshot) bool { p := find(s, "web-n"); return p != nil && p.DeletionTimestamp == nil })
		if err := os.RemoveAll(w.cfg.Path); err != nil {
			t.Fatal(err)
		}
		w.await("it ends", func(s *store.Snapshot) bool { return find(s, "web-n").DeletionTimestamp != nil })
		p := find(w.store.Snapshot(), "web-n")
		if err := w.static.DeletePod(context.Background(), keyOf(p), model.UID(p.UID)); err != nil {
			t.Fatal(err)
		}
	}
}

// Pods of a URL: a list, headers go along, and an answer that fails ends nobody.
func TestURL(t *testing.T) {
	var mu sync.Mutex
	answer := `{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"web"},"spec":{"containers":[{"name":"c","image":"i"}]}}]}`
	asked := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		select {
		case asked <- r.Header.Get("Metadata-Flavor"):
		default:
		}
		if answer == "" {
			http.Error(rw, "later", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(rw, answer)
	}))
	defer srv.Close()
	w := newWorld(t)
	w.cfg.URL, w.cfg.Header, w.cfg.HTTPCheck = srv.URL, http.Header{"Metadata-Flavor": {"Google"}}, 20*time.Millisecond
	w.start()
	w.await("the pod is taken", func(s *store.Snapshot) bool { return find(s, "web-n") != nil })
	if h := <-asked; h != "Google" {
		t.Errorf("header %q", h)
	}
	set := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		answer = text
		for len(asked) > 0 {
			<-asked
		}
	}
	set("")
	<-asked
	<-asked
	if p := find(w.store.Snapshot(), "web-n"); p.DeletionTimestamp != nil {
		t.Error("an error of the server ended the pod")
	}
	set(`{"kind":"PodList","apiVersion":"v1","items":[]}`)
	w.await("it ends", func(s *store.Snapshot) bool { return find(s, "web-n").DeletionTimestamp != nil })
	w.kill()
	w.static.http.CloseIdleConnections()
}
