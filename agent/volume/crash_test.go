package volume

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

const childRoot = "NODELET_TEST_VOLUME_ROOT"

// child is a daemon that makes, changes and removes the volumes of one pod
// until it is killed.
func child(root string) {
	s, w := store.New()
	v, err := New(Config{Root: root}, Deps{Store: s, Volumes: w.Volumes, Tokens: &tokens{life: time.Hour}, Events: &events{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		panic(err)
	}
	go v.Run(context.Background())
	pod := &corev1.Pod{}
	if err := yaml.Unmarshal([]byte(os.Getenv("NODELET_TEST_POD")), pod); err != nil {
		panic(err)
	}
	w.Runtime.Replace(nil)
	w.Pods.Replace(nil)
	h := &world{store: s, w: w}
	for i := 0; ; i++ {
		h.config("settings", map[string]string{"a": string(rune('a' + i%26)), "b": "2"})
		h.config("Secret/keys", map[string]string{"password": "s3cret"})
		switch i % 8 {
		case 0:
			w.Pods.Set(model.UID(pod.UID), pod)
		case 7:
			w.Pods.Delete(model.UID(pod.UID))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// However often the daemon is killed, the next one ends where one that was
// never killed does.
func TestKilledAtAnyMoment(t *testing.T) {
	w := newWorld(t)
	w.halt()
	pod := parsePod(t, 1, everyType)
	text, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	for range rounds {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), childRoot+"="+w.root, "NODELET_TEST_POD="+string(text))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(10+rand.IntN(60)) * time.Millisecond) // the moment is the point
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
	}
	w.boot()
	w.everything()
	w.sync(pod)
	got := w.ready(uid(1)).HostPaths
	mounts := w.mounts()
	slices.Sort(mounts)
	if want := []string{got["mem"], got["all"], got["keys"]}; !slices.Equal(mounts, want) {
		t.Errorf("mounts %q, want %q", mounts, want)
	}
	if w.read(filepath.Join(got["cm"], "sub/a.txt")) != "1" || w.read(filepath.Join(got["all"], "a")) != "1" {
		t.Error("old content")
	}
	for _, dir := range []string{got["cm"], got["all"]} {
		if left, err := filepath.Glob(dir + "/..2*"); err != nil || len(left) != 1 {
			t.Errorf("left over: %q %v", left, err)
		}
	}
	w.sync()
	w.gone(uid(1))
	if left, err := os.ReadDir(filepath.Join(w.root, "pods")); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v\n%s", left, err, tree(w.root))
	}
}
