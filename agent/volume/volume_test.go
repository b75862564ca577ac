package volume

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sys/unix"

	"nodelet/internal/model"
	"nodelet/internal/store"
)

const everyType = `
  - {name: disk, emptyDir: {}}
  - {name: mem, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: cm, configMap: {name: settings, items: [{key: a, path: sub/a.txt, mode: 256}, {key: b, path: b}]}}
  - {name: keys, secret: {secretName: keys}}
  - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - name: all
    projected:
      sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: settings}
`

func (w *world) everything() {
	w.config("settings", map[string]string{"a": "1", "b": "2"})
	w.config("Secret/keys", map[string]string{"password": "s3cret"})
}

func TestEveryTypeIsPresent(t *testing.T) {
	w := newWorld(t)
	host := t.TempDir()
	pod := parsePod(t, 1, everyType+"  - {name: host, hostPath: {path: "+host+", type: Directory}}\n")
	w.everything()
	w.sync(pod)
	got := w.ready(uid(1)).HostPaths
	base := filepath.Join(w.root, "pods", string(uid(1)), "volumes") + "/kubernetes.io~"
	want := map[string]string{
		"disk": base + "empty-dir/disk", "mem": base + "empty-dir/mem", "cm": base + "configmap/cm",
		"keys": base + "secret/keys", "info": base + "downward-api/info", "all": base + "projected/all", "host": host,
	}
	if !maps.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	for path, content := range map[string]string{
		"cm/sub/a.txt": "1", "cm/b": "2", "keys/password": "s3cret", "info/labels": `a="b"`, "all/a": "1",
	} {
		volume, file, _ := strings.Cut(path, "/")
		if c := w.read(filepath.Join(got[volume], file)); c != content {
			t.Errorf("%s: %q", path, c)
		}
	}
	for path, mode := range map[string]string{
		"disk": "0777", "mem": "1777", "cm": "0755", "cm/sub/a.txt": "0400", "cm/b": "0644", "keys/password": "0644", "all/token": "0644",
	} {
		volume, file, _ := strings.Cut(path, "/")
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(got[volume], file), &st); err != nil {
			t.Fatal(err)
		}
		if m := fmt.Sprintf("%04o", st.Mode&0o7777); m != mode {
			t.Errorf("%s: mode %s, want %s", path, m, mode)
		}
	}
	mounts := w.mounts()
	slices.Sort(mounts)
	if want := []string{want["mem"], want["all"], want["keys"]}; !slices.Equal(mounts, want) {
		t.Errorf("mounts %q, want %q", mounts, want)
	}
	if err := os.WriteFile(filepath.Join(got["mem"], "big"), make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the size limit does not hold: %v", err)
	}
	// Others must not look into the directories above the volumes.
	for _, dir := range []string{"pods", "pods/" + string(uid(1)), "pods/" + string(uid(1)) + "/volumes"} {
		info, err := os.Stat(filepath.Join(w.root, dir))
		if err != nil || info.Mode().Perm()&0o007 != 0 {
			t.Errorf("%s: %v %v", dir, info.Mode(), err)
		}
	}
}

func TestFSGroupOwnsVolumes(t *testing.T) {
	w := newWorld(t)
	pod := parsePod(t, 1, everyType)
	group, user := int64(2000), int64(1000)
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group, RunAsUser: &user}
	w.everything()
	w.sync(pod)
	got := w.ready(uid(1)).HostPaths
	for path, want := range map[string]string{
		"disk": "2777 0:2000", "mem": "3777 0:2000", "cm": "2755 0:2000", "cm/sub": "2755 0:2000",
		"cm/sub/a.txt": "0440 0:2000", "keys/password": "0644 0:2000", "all/token": "0640 1000:2000",
	} {
		volume, file, _ := strings.Cut(path, "/")
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(got[volume], file), &st); err != nil {
			t.Fatal(err)
		}
		if s := fmt.Sprintf("%04o %d:%d", st.Mode&0o7777, st.Uid, st.Gid); s != want {
			t.Errorf("%s: %s, want %s", path, s, want)
		}
	}
}

func TestLiveUpdate(t *testing.T) {
	w := newWorld(t)
	pod := parsePod(t, 1, everyType)
	w.everything()
	w.sync(pod)
	got := w.ready(uid(1)).HostPaths
	w.config("settings", map[string]string{"a": "new", "b": "2", "c": "3"})
	pod = pod.DeepCopy()
	pod.Labels["a"], pod.ResourceVersion = "new", "2"
	w.w.Pods.Set(uid(1), pod)
	w.look(uid(1))
	for path, want := range map[string]string{"cm/sub/a.txt": "new", "all/a": "new", "all/c": "3", "info/labels": `a="new"`} {
		volume, file, _ := strings.Cut(path, "/")
		if c := w.read(filepath.Join(got[volume], file)); c != want {
			t.Errorf("%s: %q", path, c)
		}
	}
	if n := w.tokens.issued(); n != 1 {
		t.Errorf("%d tokens were issued for one volume", n)
	}
}

func TestConfigThatGoesAwayLeavesContent(t *testing.T) {
	w := newWorld(t)
	w.everything()
	w.sync(parsePod(t, 1, everyType))
	got := w.ready(uid(1)).HostPaths
	w.config("settings", nil)
	w.says(uid(1), model.VolumesReady, `volume "cm" : configmap "settings" not found`)
	if c := w.read(filepath.Join(got["cm"], "b")); c != "2" {
		t.Errorf("content is %q", c)
	}
	if !strings.Contains(w.events.String(), "p1 Warning FailedMount: MountVolume.SetUp failed for volume \"cm\"") {
		t.Errorf("events: %s", w.events)
	}
	w.boot() // and a restart changes nothing of that
	w.config("settings", nil)
	w.config("Secret/keys", map[string]string{"password": "s3cret"})
	w.sync(parsePod(t, 1, everyType))
	w.says(uid(1), model.VolumesReady, `configmap "settings" not found`)
	w.config("settings", map[string]string{"a": "1", "b": "3"})
	w.await(uid(1), "well", func(r *model.PodVolumes, ok bool) bool { return ok && r.State == model.VolumesReady && r.Message == "" })
	if c := w.read(filepath.Join(got["cm"], "b")); c != "3" {
		t.Errorf("content is %q", c)
	}
}

func TestWaitsForReferences(t *testing.T) {
	w := newWorld(t)
	w.sync(parsePod(t, 1, everyType))
	w.says(uid(1), model.VolumesAbsent, `configmap "settings" has not been read yet`)
	w.config("settings", nil)
	w.config("Secret/keys", map[string]string{"password": "s3cret"})
	w.says(uid(1), model.VolumesFailed, `volume "cm" : configmap "settings" not found`)
	w.everything()
	w.ready(uid(1))
}

func TestUnsupportedTypeIsNamed(t *testing.T) {
	w := newWorld(t)
	w.sync(parsePod(t, 1, "  - {name: share, nfs: {server: s, path: /p}}\n"))
	w.says(uid(1), model.VolumesFailed, `volume "share" : volumes of type nfs are not supported`)
	w.look(uid(1))
	w.look(uid(1))
	if want := `p1 Warning FailedMount: MountVolume.SetUp failed for volume "share" : volumes of type nfs are not supported by this node`; w.events.String() != want {
		t.Errorf("events %q, want one", w.events)
	}
}

func TestKeys(t *testing.T) {
	s, w := store.New()
	pod := parsePod(t, 1, "  - {name: cm, configMap: {name: settings}}\n")
	other := parsePod(t, 2, "")
	h := &world{t: t, store: s, w: w}
	h.sync(pod, other)
	step := func(name string, change func(p *corev1.Pod), want ...model.UID) {
		t.Helper()
		prev := s.Snapshot()
		pod = pod.DeepCopy()
		pod.ResourceVersion += "x"
		change(pod)
		w.Pods.Set(uid(1), pod)
		if got := slices.Sorted(keys(prev, s.Snapshot())); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	step("status", func(p *corev1.Pod) { p.Status.PodIP = "10.0.0.1" })
	step("label", func(p *corev1.Pod) { p.Labels = map[string]string{"x": "y"} }, uid(1))
	step("annotation", func(p *corev1.Pod) { p.Annotations = map[string]string{"x": "y"} }, uid(1))
	step("ephemeral container", func(p *corev1.Pod) { p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{}} }, uid(1))
	step("what it refers to", func(*corev1.Pod) { h.config("settings", map[string]string{"a": "1"}) }, uid(1))
	step("what nobody refers to", func(*corev1.Pod) { h.config("Secret/settings", map[string]string{"a": "1"}) })
	step("a container of a pod that goes on", func(*corev1.Pod) { h.runtime(uid(1), model.ContainerExited) })
	step("a container of a pod that is gone", func(*corev1.Pod) { h.runtime(uid(3), model.ContainerExited) }, uid(3))
	step("deletion", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, uid(1))
	step("a container of a pod that is over", func(*corev1.Pod) { h.runtime(uid(1), model.ContainerRunning) }, uid(1))
	w.Volumes.Set(uid(4), &model.PodVolumes{UID: uid(4)})
	if got := slices.Sorted(keys(nil, s.Snapshot())); !slices.Equal(slices.Compact(got), []model.UID{uid(1), uid(2), uid(3), uid(4)}) {
		t.Errorf("at the start: %v", got)
	}
}

func TestHostPathTypes(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(dir+"/sock", unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, kind, problem string }{
		{dir, "Directory", ""},
		{dir + "/link", "Directory", ""},
		{file, "Directory", "is not a directory"},
		{file, "File", ""},
		{dir, "File", "is not a file"},
		{dir + "/sock", "Socket", ""},
		{file, "Socket", "is not a socket file"},
		{"/dev/null", "CharDevice", ""},
		{file, "CharDevice", "is not a character device"},
		{"/dev/null", "BlockDevice", "is not a block device"},
		{dir + "/none", "Directory", "no such file"},
		{dir + "/none", "File", "no such file"},
		{dir + "/new/dir", "DirectoryOrCreate", ""},
		{dir + "/new/file", "FileOrCreate", ""},
		{dir + "/missing/file", "FileOrCreate", "no such file"},
		{dir + "/none", "", ""},
		{dir, "Floppy", "is not known"},
	} {
		err := checkHostPath(c.path, corev1.HostPathType(c.kind))
		if c.kind == "" {
			err = nil // asked of nobody
		}
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s as %s: %v", c.path, c.kind, err)
		}
	}
	w.sync(parsePod(t, 1, "  - {name: h, hostPath: {path: "+file+", type: Directory}}\n"))
	w.says(uid(1), model.VolumesFailed, "is not a directory")
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	volumes := "  - {name: tok, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 3600}}]}}\n"
	w.sync(parsePod(t, 1, volumes))
	file := filepath.Join(w.ready(uid(1)).HostPaths["tok"], "token")
	first := w.read(file)

	w.boot() // a fresh token outlives a restart
	w.sync(parsePod(t, 1, volumes))
	w.ready(uid(1))
	if w.read(file) != first || w.tokens.issued() != 1 {
		t.Fatalf("a restart asked for a new token: %d issued", w.tokens.issued())
	}

	// One that is past 80 % of its life is replaced; while that is refused, it stays.
	w.tokens.set(func() { w.tokens.age = 50 * time.Minute })
	other := strings.Replace(volumes, "3600", "3601", 1)
	w.sync(parsePod(t, 2, other))
	old := filepath.Join(w.ready(uid(2)).HostPaths["tok"], "token")
	aged := w.read(old)
	w.tokens.set(func() { w.tokens.refuse = true })
	w.boot()
	w.sync(parsePod(t, 2, other))
	w.ready(uid(2))
	if w.read(old) != aged {
		t.Fatal("a token that still serves was given up")
	}
	w.tokens.set(func() { w.tokens.refuse, w.tokens.age = false, 0 })
	w.boot()
	w.sync(parsePod(t, 2, other))
	w.ready(uid(2))
	w.look(uid(2))
	if w.read(old) == aged {
		t.Fatal("a token past 80 % of its life was not replaced")
	}

	w.tokens.set(func() { w.tokens.refuse = true })
	w.sync(parsePod(t, 3, volumes))
	w.says(uid(3), model.VolumesFailed, "fetch token of service account ns/default: the API server is away")
	w.tokens.set(func() { w.tokens.refuse = false })
	w.ready(uid(3)) // by the loop's own retries
}

// The loop itself comes back when a token is due, with nothing else happening.
func TestTokenRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sync(parsePod(t, 1, "  - {name: tok, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 3600}}]}}\n"))
		file := filepath.Join(w.ready(uid(1)).HostPaths["tok"], "token")
		first := w.read(file)
		time.Sleep(47 * time.Minute)
		if w.read(file) != first {
			t.Error("replaced before 80 % of its life")
		}
		time.Sleep(time.Minute)
		second := w.read(file)
		if second == first {
			t.Error("not replaced after 80 % of its life")
		}
		w.tokens.set(func() { w.tokens.refuse = true })
		time.Sleep(55 * time.Minute) // due, refused, and tried again until
		w.tokens.set(func() { w.tokens.refuse = false })
		time.Sleep(2 * tokenRetry)
		if w.read(file) == second || w.tokens.issued() != 3 {
			t.Errorf("%d tokens issued", w.tokens.issued())
		}
	})
}

func BenchmarkLookAtAPodThatIsRight(b *testing.B) {
	w := newWorld(b)
	w.everything()
	w.sync(parsePod(b, 1, everyType))
	w.ready(uid(1))
	for b.Loop() {
		w.look(uid(1))
	}
}

func TestRestartKeepsDataAndDoublesNothing(t *testing.T) {
	w := newWorld(t)
	w.everything()
	w.sync(parsePod(t, 1, everyType))
	got := w.ready(uid(1)).HostPaths
	for _, v := range []string{"disk", "mem"} {
		if err := os.WriteFile(filepath.Join(got[v], "data"), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(got[v], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	before := w.mounts()
	for range 3 {
		w.boot()
		w.everything()
		w.sync(parsePod(t, 1, everyType))
		w.ready(uid(1))
	}
	if after := w.mounts(); !slices.Equal(before, after) {
		t.Errorf("mounts %q, before %q", after, before)
	}
	for _, v := range []string{"disk", "mem"} {
		if c := w.read(filepath.Join(got[v], "data")); c != "mine" {
			t.Errorf("%s: %q", v, c)
		}
		if info, err := os.Stat(got[v]); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: the container's mode was changed: %v %v", v, info.Mode(), err)
		}
	}
}

func TestRemovedOnlyWhenNothingRuns(t *testing.T) {
	w := newWorld(t)
	host := t.TempDir()
	if err := os.WriteFile(host+"/precious", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.everything()
	w.runtime(uid(1), model.ContainerRunning)
	w.sync(parsePod(t, 1, everyType+"  - {name: host, hostPath: {path: "+host+"}}\n"))
	got := w.ready(uid(1)).HostPaths
	// A container with Bidirectional propagation left a mount of the host's files in a volume.
	inner := filepath.Join(got["disk"], "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(host, inner, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	w.sync()
	w.look(uid(1))
	if c := w.read(filepath.Join(got["keys"], "password")); c != "s3cret" {
		t.Fatalf("a volume in use was changed: %q", c)
	}
	w.runtime(uid(1), model.ContainerExited)
	w.gone(uid(1))
	if told, want := <-w.removed, string(uid(1))+" <nil>"; told != want {
		t.Errorf("told of the removal %q, want %q", told, want)
	}
	if _, err := os.Lstat(filepath.Join(w.root, "pods", string(uid(1)))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left:\n%s", tree(w.root))
	}
	if m := w.mounts(); len(m) != 0 {
		t.Errorf("mounts left: %q", m)
	}
	if c := w.read(host + "/precious"); c != "x" {
		t.Errorf("the host's file is %q", c)
	}
}

func TestPodThatIsOverKeepsItsDirectory(t *testing.T) {
	for name, end := range map[string]func(*corev1.Pod){
		"deleting":  func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Now()} },
		"succeeded": func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.everything()
			pod := parsePod(t, 1, everyType)
			w.runtime(uid(1), model.ContainerRunning)
			w.sync(pod)
			w.ready(uid(1))
			log := filepath.Join(w.root, "pods", string(uid(1)), "containers/c/0")
			if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(log, []byte("last words"), 0o644); err != nil {
				t.Fatal(err)
			}
			pod = pod.DeepCopy()
			pod.ResourceVersion = "2"
			end(pod)
			w.w.Pods.Set(uid(1), pod)
			w.look(uid(1))
			w.ready(uid(1)) // as long as a container runs
			w.runtime(uid(1), model.ContainerExited)
			w.gone(uid(1))
			if m := w.mounts(); len(m) != 0 || w.read(log) != "last words" {
				t.Errorf("mounts left: %q", m)
			}
			w.sync()
			w.look(uid(1))
			if _, err := os.Lstat(filepath.Dir(log)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("left:\n%s", tree(w.root))
			}
		})
	}
}

func TestOrphansGoOnceAllIsSynced(t *testing.T) {
	w := newWorld(t)
	w.everything()
	w.sync(parsePod(t, 1, everyType), parsePod(t, 2, everyType))
	w.ready(uid(1))
	w.ready(uid(2))
	foreign := filepath.Join(w.root, "pods", "lost+found")
	if err := os.Mkdir(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	w.boot()
	w.says(uid(1), model.VolumesAbsent, "since the daemon started")
	w.w.Pods.Replace(nil) // Runtime is not synced: nothing may go
	w.says(uid(2), model.VolumesAbsent, "since the daemon started")
	if len(w.mounts()) != 6 {
		t.Fatalf("mounts went before all was synced: %q", w.mounts())
	}
	w.everything()
	w.sync(parsePod(t, 2, everyType))
	w.gone(uid(1))
	w.ready(uid(2))
	if m := w.mounts(); len(m) != 3 || !strings.Contains(m[0], string(uid(2))) {
		t.Errorf("mounts: %q", m)
	}
	if _, err := os.Lstat(foreign); err != nil {
		t.Error(err)
	}
}

// Static pods come and go while no API server has said anything: what was told
// and taken back goes, what nobody has spoken of stays.
func TestPodsThatGoBeforeTheAPIAnswers(t *testing.T) {
	w := newWorld(t)
	w.sync(parsePod(t, 2, "  - {name: v, emptyDir: {}}\n"))
	w.ready(uid(2))
	w.boot()
	w.w.Runtime.Replace(nil)
	pod := parsePod(t, 1, "  - {name: v, emptyDir: {}}\n")
	w.w.Pods.Set(uid(1), pod)
	w.ready(uid(1))
	ending := pod.DeepCopy()
	now := metav1.Now()
	ending.DeletionTimestamp, ending.ResourceVersion = &now, "ending"
	w.w.Pods.Set(uid(1), ending)
	w.await(uid(1), "cleared", func(_ *model.PodVolumes, ok bool) bool { return !ok })
	w.w.Pods.Delete(uid(1))
	w.await(uid(1), "removed", func(_ *model.PodVolumes, ok bool) bool {
		_, err := os.Lstat(filepath.Join(w.root, "pods", string(uid(1))))
		return !ok && errors.Is(err, os.ErrNotExist)
	})
	if _, err := os.Lstat(filepath.Join(w.root, "pods", string(uid(2)), "volumes")); err != nil {
		t.Errorf("the volumes of a pod that the API may know went: %v", err)
	}
}

func TestOneThatHangsDelaysNobody(t *testing.T) {
	w := newWorld(t)
	w.tokens.block = "p1"
	volumes := "  - {name: tok, projected: {sources: [{serviceAccountToken: {path: token}}]}}\n"
	w.sync(parsePod(t, 1, volumes), parsePod(t, 2, volumes))
	w.ready(uid(2))
	if row, _ := w.store.Snapshot().Volumes.Get(uid(1)); row != nil && row.State == model.VolumesReady {
		t.Error("the one that hangs is ready")
	}
}
