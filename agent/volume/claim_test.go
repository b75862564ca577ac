package volume

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"nodelet/internal/model"
	"nodelet/internal/mounttest"
)

// claim puts a bound claim into the store; spec is that of its volume.
func (w *world) claim(name, spec string) {
	w.t.Helper()
	c := &model.Claim{Key: model.Key{Namespace: "ns", Name: name}, Claim: &corev1.PersistentVolumeClaim{}, Volume: &corev1.PersistentVolume{}}
	version := fmt.Sprint(w.store.Snapshot().Revision)
	for text, into := range map[string]any{
		fmt.Sprintf("metadata: {name: %s, namespace: ns, uid: u-%s, resourceVersion: '%s'}\nspec: {volumeName: pv-%s}\nstatus: {phase: Bound}", name, name, version, name): c.Claim,
		fmt.Sprintf("metadata: {name: pv-%s, resourceVersion: '%s'}\nspec:\n  claimRef: {uid: u-%s}\n  %s", name, version, name, strings.ReplaceAll(spec, "\n", "\n  ")):   c.Volume,
	} {
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			w.t.Fatal(err)
		}
	}
	w.w.Claims.Set(c.Key, c)
}

func claimPod(t *testing.T, n int, claim string) *corev1.Pod {
	pod := parsePod(t, n, "  - {name: data, persistentVolumeClaim: {claimName: "+claim+"}}\n")
	pod.CreationTimestamp = metav1.NewTime(time.Unix(int64(1000+n), 0))
	return pod
}

func TestAClaimIsAwaitedAndUsed(t *testing.T) {
	w := newWorld(t)
	place := t.TempDir()
	pod := claimPod(t, 1, "data")
	w.sync(pod)
	w.says(uid(1), model.VolumesAbsent, "claim ns/data has not been looked up yet")
	w.w.Claims.Set(model.Key{Namespace: "ns", Name: "data"}, &model.Claim{Key: model.Key{Namespace: "ns", Name: "data"}, Missing: true})
	w.says(uid(1), model.VolumesFailed, `persistentvolumeclaim "data" not found`)
	if !strings.Contains(w.events.String(), "p1 Warning FailedMount: Unable to attach or mount volumes: unmounted volumes=[data]") {
		t.Errorf("events: %s", w.events)
	}
	w.claim("data", "local: {path: "+place+"}")
	if got := w.ready(uid(1)).HostPaths["data"]; got != place {
		t.Fatalf("got %s", got)
	}
	// The pod keeps what it has, whatever becomes of the claim.
	w.w.Claims.Set(model.Key{Namespace: "ns", Name: "data"}, &model.Claim{Key: model.Key{Namespace: "ns", Name: "data"}, Missing: true})
	w.look(uid(1))
	w.ready(uid(1))
	if err := os.WriteFile(filepath.Join(place, "precious"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.sync()
	w.gone(uid(1))
	w.read(filepath.Join(place, "precious"))
}

func TestALocalVolumeIsOfThePodsGroup(t *testing.T) {
	w := newWorld(t)
	place := t.TempDir()
	if err := os.WriteFile(filepath.Join(place, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	group := int64(2000)
	pod := claimPod(t, 1, "data")
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	w.claim("data", "local: {path: "+place+"}")
	w.sync(pod)
	w.ready(uid(1))
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(place, "f"), &st); err != nil || st.Gid != 2000 {
		t.Fatalf("group %d, %v", st.Gid, err)
	}
	// Later looks leave alone what containers make of it.
	if err := os.Chown(filepath.Join(place, "f"), 0, 7); err != nil {
		t.Fatal(err)
	}
	w.look(uid(1))
	if err := syscall.Stat(filepath.Join(place, "f"), &st); err != nil || st.Gid != 7 {
		t.Fatalf("group %d, %v", st.Gid, err)
	}
}

// A local volume that is a device is mounted for each of its pods, formatted
// once, and goes with the pod; what is on it stays.
func TestALocalVolumeThatIsADeviceIsMounted(t *testing.T) {
	for _, program := range []string{"blkid", "mkfs.ext4"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	w := newWorld(t)
	device := mounttest.Loop(t, 16<<20)
	link := filepath.Join(t.TempDir(), "disk-by-name")
	if err := os.Symlink(device, link); err != nil {
		t.Fatal(err)
	}
	group := int64(2000)
	first, second := claimPod(t, 1, "data"), claimPod(t, 2, "data")
	first.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: &group}
	w.claim("data", "mountOptions: [noatime]\nlocal: {path: "+link+"}")
	w.sync(first, second)
	a, b := w.ready(uid(1)).HostPaths["data"], w.ready(uid(2)).HostPaths["data"]
	if want := filepath.Join(w.root, "pods", string(uid(1)), "volumes/kubernetes.io~local-volume/pv-data"); a != want || a == b {
		t.Fatalf("mounted on %s and %s", a, b)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(a, &st); err != nil || st.Gid != 2000 {
		t.Errorf("group %d, %v", st.Gid, err)
	}
	if err := os.WriteFile(filepath.Join(a, "precious"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.look(uid(2))
	w.read(filepath.Join(w.ready(uid(2)).HostPaths["data"], "precious"))
	w.sync(second)
	w.gone(uid(1))
	if left := w.mounts(); len(left) != 1 || left[0] != b {
		t.Errorf("mounts that are left: %v", left)
	}
	w.read(filepath.Join(b, "precious"))
	w.sync()
	w.gone(uid(2))
	third := claimPod(t, 3, "data")
	w.sync(third)
	w.read(filepath.Join(w.ready(uid(3)).HostPaths["data"], "precious"))
	w.sync()
	w.gone(uid(3))
}

func TestABlockVolumeIsADevice(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dev := filepath.Join(t.TempDir(), "disk")
	if err := syscall.Mknod(dev, syscall.S_IFBLK|0o600, 7<<8); err != nil {
		t.Skipf("cannot make a device node: %v", err)
	}
	for n, c := range map[int]struct{ claim, path, problem string }{1: {"raw", dev, ""}, 2: {"other", file, "is not a block device"}} {
		pod := claimPod(t, n, c.claim)
		pod.Spec.Containers[0].VolumeMounts = nil
		pod.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "data", DevicePath: "/dev/x"}}
		w.claim(c.claim, "volumeMode: Block\nlocal: {path: "+c.path+"}")
		w.sync(pod)
		if c.problem != "" {
			w.says(uid(n), model.VolumesFailed, c.problem)
			w.look(uid(n))
			if got := w.events.String(); !strings.HasPrefix(got, "p2 Warning FailedMapVolume: MapVolume.SetUpDevice failed for volume") || strings.Contains(got, "FailedMount") {
				t.Errorf("events %s", got)
			}
			continue
		}
		if got := w.ready(uid(n)).Devices["data"]; got != c.path {
			t.Fatalf("got %s", got)
		}
	}
}

func TestReadWriteOncePodIsOnePodsAtATime(t *testing.T) {
	w := newWorld(t)
	w.claim("one", "accessModes: [ReadWriteOncePod]\nhostPath: {path: "+t.TempDir()+"}")
	first, second := claimPod(t, 1, "one"), claimPod(t, 2, "one")
	w.sync(first, second)
	w.ready(uid(1))
	w.says(uid(2), model.VolumesFailed, "already in use by another pod (ns/p1)")
	// Still in use while a container of the first runs, free when it is gone.
	w.runtime(uid(1), model.ContainerRunning)
	w.sync(second)
	w.look(uid(2))
	w.says(uid(2), model.VolumesFailed, "already in use")
	w.runtime(uid(1), model.ContainerExited)
	w.ready(uid(2))
}
