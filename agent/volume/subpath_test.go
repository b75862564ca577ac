package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/volume/mount"
)

// volume gives a pod with an emptyDir "data" and a configMap "cm", and where the first is.
func (w *world) withData() (dir string) {
	w.everything()
	w.sync(parsePod(w.t, 1, "  - {name: data, emptyDir: {}}\n  - {name: cm, configMap: {name: settings}}\n"))
	return w.ready(uid(1)).HostPaths["data"]
}

func (w *world) bind(path string) (string, error) {
	return w.v.BindSubPath(w.t.Context(), SubPath{PodUID: uid(1), Container: "c", Index: 3, Volume: "data", Path: path})
}

func TestSubPath(t *testing.T) {
	w := newWorld(t)
	data := w.withData()
	for _, dir := range []string{"real/deep", "other"} {
		if err := os.MkdirAll(filepath.Join(data, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, dir, "marker"), []byte(dir), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("real", filepath.Join(data, "link")); err != nil {
		t.Fatal(err)
	}
	target, err := w.bind("real/deep")
	want := filepath.Join(w.root, "pods", string(uid(1)), "volume-subpaths/data/c/3")
	if err != nil || target != want {
		t.Fatalf("got %q, %v", target, err)
	}
	// The same, by way of a link, with odd slashes, and again: one mount each time.
	for path, content := range map[string]string{"real/deep": "real/deep", "link/deep": "real/deep", "./link//deep/": "real/deep", "other": "other"} {
		if _, err := w.bind(path); err != nil {
			t.Fatal(err)
		}
		if c := w.read(filepath.Join(target, "marker")); c != content {
			t.Errorf("%s shows %q", path, c)
		}
		if m, err := mount.Below(target); err != nil || len(m) != 1 {
			t.Errorf("%s: %d mounts, %v", path, len(m), err)
		}
	}
	// What a container deletes and makes again is another directory.
	if err := os.Rename(filepath.Join(data, "other"), filepath.Join(data, "old")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.bind("other/made"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(data, "other/made"))
	if err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("a missing directory was made with mode %v, %v, not with the volume's", info.Mode(), err)
	}
	// A single file.
	if _, err := w.bind("real/deep/marker"); err != nil || w.read(target) != "real/deep" {
		t.Errorf("file: %v", err)
	}
	file, err := w.v.BindSubPath(t.Context(), SubPath{PodUID: uid(1), Container: "c", Volume: "cm", Path: "a"})
	if err != nil || w.read(file) != "1" {
		t.Errorf("key of a configMap: %v", err)
	}
	w.sync()
	w.gone(uid(1))
	if m := w.mounts(); len(m) != 0 {
		t.Errorf("mounts left: %q", m)
	}
}

func TestSubPathRefuses(t *testing.T) {
	w := newWorld(t)
	data := w.withData()
	outside := t.TempDir()
	for name, to := range map[string]string{
		"abs": outside, "up": "../../../../..", "root": "/", "loop": "loop", "proc": "/proc/self/root", "nowhere": "missing/x",
	} {
		if err := os.Symlink(to, filepath.Join(data, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(data, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"abs", "abs/x/y", "up", "up/etc", "root/etc", "loop", "proc/etc", "nowhere", "file/x", "../x", "a/../../x", "..", "/etc"} {
		target, err := w.bind(path)
		if err == nil {
			t.Errorf("%s was bound to %s", path, target)
			continue
		}
		if strings.Contains(err.Error(), outside) || strings.Contains(err.Error(), w.root) {
			t.Errorf("%s: the message tells of the host: %v", path, err)
		}
	}
	if all, err := os.ReadDir(outside); err != nil || len(all) != 0 {
		t.Errorf("made outside: %v %v", all, err)
	}
	if m := w.mounts(); len(m) != 0 {
		t.Errorf("mounts: %q", m)
	}
	for _, s := range []SubPath{
		{PodUID: uid(1), Container: "../c", Volume: "data", Path: "x"},
		{PodUID: uid(1), Container: "c", Volume: "none", Path: "x"},
		{PodUID: uid(2), Container: "c", Volume: "data", Path: "x"},
		{PodUID: "../x", Container: "c", Volume: "data", Path: "x"},
	} {
		if _, err := w.v.BindSubPath(t.Context(), s); err == nil {
			t.Errorf("%+v was bound", s)
		}
	}
}

// CVE-2021-25741 and CVE-2017-1002101: a container exchanges a directory for a
// link to the host while the daemon looks at it.
func TestSubPathRaces(t *testing.T) {
	w := newWorld(t)
	data := w.withData()
	outside := t.TempDir()
	if err := os.Mkdir(filepath.Join(outside, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	var host unix.Stat_t
	if err := unix.Stat(filepath.Join(outside, "sub"), &host); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(data, "a/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(data, "evil")); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var swaps int
	var attacker sync.WaitGroup
	defer attacker.Wait()
	defer stop.Store(true)
	attacker.Go(func() {
		for !stop.Load() {
			if err := unix.Renameat2(unix.AT_FDCWD, data+"/a", unix.AT_FDCWD, data+"/evil", unix.RENAME_EXCHANGE); err == nil {
				swaps++
			}
		}
	})
	bound, refused := 0, 0
	const enough = 20
	for i := 0; i < 50_000 && (bound < enough || refused < enough); i++ {
		path := "a/sub"
		if i%2 == 1 {
			path = "a/made/" + string(rune('a'+i%26)) // one that has to be created on the way
		}
		target, err := w.bind(path)
		if err != nil {
			refused++
			continue
		}
		bound++
		var st unix.Stat_t
		if err := unix.Stat(target, &st); err != nil {
			t.Fatal(err)
		}
		if st.Ino == host.Ino && st.Dev == host.Dev {
			t.Fatal("the host's directory was bound")
		}
	}
	stop.Store(true)
	attacker.Wait()
	t.Logf("%d bound, %d refused, %d exchanges", bound, refused, swaps)
	if all, err := os.ReadDir(outside); err != nil || len(all) != 1 {
		t.Errorf("made outside: %v %v", all, err)
	}
	if !t.Failed() && (bound < enough || refused < enough) {
		t.Errorf("the race was not run: %d bound, %d refused", bound, refused)
	}
}

func TestSubPathOfAPodThatIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.withData()
	release, err := w.v.pods.Acquire(t.Context(), uid(1))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := w.v.BindSubPath(ctx, SubPath{PodUID: uid(1), Container: "c", Volume: "data", Path: "x"})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for the pod's lock: %v", err)
	}
	release()
	w.sync()
	w.gone(uid(1))
	if target, err := w.bind("x"); err == nil {
		t.Errorf("bound to %s after the pod was removed", target)
	}
	if row, ok := w.store.Snapshot().Volumes.Get(uid(1)); ok {
		t.Errorf("row %v", row)
	}
}

// A directory that is made for a sub path is like its volume in all bits: a tmpfs has the sticky one.
func TestASubPathIsMadeLikeItsVolume(t *testing.T) {
	w := newWorld(t)
	w.everything()
	group := int64(2000)
	pod := parsePod(t, 1, "  - {name: data, emptyDir: {medium: Memory}}\n")
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	w.sync(pod)
	volume := w.ready(uid(1)).HostPaths["data"]
	target, err := w.bind("made/here")
	if err != nil {
		t.Fatal(err)
	}
	var want, got syscall.Stat_t
	if err := errors.Join(syscall.Stat(volume, &want), syscall.Stat(target, &got)); err != nil {
		t.Fatal(err)
	}
	if got.Mode != want.Mode || got.Gid != want.Gid || want.Mode&0o7777 != 0o3777 {
		t.Errorf("made with mode %o and group %d, the volume has %o and %d", got.Mode, got.Gid, want.Mode, want.Gid)
	}
}
