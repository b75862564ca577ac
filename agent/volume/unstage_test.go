package volume

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"nodelet/agent/volume/csi"
	"nodelet/agent/volume/csi/csitest"
	"nodelet/internal/model"
)

const volumeOne = "kubernetes.io/csi/" + driverName + "^vol-1"

// until waits for what the driver, the API or a loop's health tells.
func (d *driven) until(what string, is func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("never %s; calls %q\n%s", what, d.driver.Calls(), tree(d.root))
		}
	}
}

func (d *driven) called(call string) int {
	n := 0
	for _, c := range d.driver.Calls() {
		if c == call {
			n++
		}
	}
	return n
}

// newLeft gives a node on which the only pod of volume vol-1 has gone, and the driver has refused to unstage it.
func newLeft(t *testing.T, code codes.Code) *driven {
	t.Helper()
	d := newDriven(t, csitest.Config{FaultRate: -1}, noAttach())
	d.claim("data", persistent("vol-1"))
	d.sync(claimPod(t, 1, "data"))
	d.ready(uid(1))
	d.driver.Refuse("NodeUnstageVolume", "vol-1", code)
	d.sync()
	d.gone(uid(1))
	d.until("tried", func() bool { return d.called("NodeUnstageVolume vol-1") > 0 })
	return d
}

// attached says that volume vol-1 is attached to this node.
func (d *driven) attached() {
	d.api.mu.Lock()
	defer d.api.mu.Unlock()
	d.api.node.Status.VolumesAttached = []corev1.AttachedVolume{{Name: volumeOne}}
	d.api.attachments[csi.AttachmentName("vol-1", driverName, "node-1")] = &storagev1.VolumeAttachment{Status: storagev1.VolumeAttachmentStatus{Attached: true}}
}

// A pod does not wait for its volume to be unstaged; the volume does not count as free before, whatever
// daemon comes, and the node says which one it is.
func TestAPodGoesBeforeItsVolumeIsUnstaged(t *testing.T) {
	d := newDriven(t, csitest.Config{FaultRate: -1}, storagev1.CSIDriverSpec{})
	d.attached()
	d.claim("data", persistent("vol-1"))
	d.sync(claimPod(t, 1, "data"))
	d.ready(uid(1))
	d.driver.Refuse("NodeUnstageVolume", "vol-1", codes.Internal)
	d.sync()
	d.gone(uid(1))
	stays := func() bool {
		s := d.health.Status()
		return s.Failing == 1 && strings.Contains(s.Error, driverName+"^vol-1: NodeUnstageVolume at ")
	}
	d.until("unhealthy for the volume", stays)
	for range 2 {
		if got := d.inUse(); !slices.Equal(got, []string{volumeOne}) {
			t.Fatalf("in use: %q", got)
		}
		if s, p := d.driver.InUse(); s != 1 || p != 0 {
			t.Fatalf("%d staged, %d published", s, p)
		}
		d.restart()
		d.sync()
		d.until("unhealthy for the volume after a restart", stays)
	}
	d.driver.Refuse("NodeUnstageVolume", "vol-1", codes.OK)
	d.until("free to be detached", func() bool { return len(d.inUse()) == 0 })
	d.until("healthy", func() bool { return d.health.Status().Failing == 0 })
	d.nothingLeft()
}

// After an attempt to unstage, whatever came of it, nobody knows: the next pod has the volume staged anew.
func TestAPodThatComesWhileAVolumeIsUnstaged(t *testing.T) {
	d := newLeft(t, codes.DeadlineExceeded)
	d.sync(claimPod(t, 2, "data"))
	d.ready(uid(2))
	if n := d.called("NodeStageVolume vol-1"); n != 2 {
		t.Fatalf("staged %d times", n)
	}
	d.until("healthy: the volume is wanted", func() bool { return d.health.Status().Failing == 0 })
	d.driver.Refuse("NodeUnstageVolume", "vol-1", codes.OK)
	d.sync()
	d.gone(uid(2))
	d.until("unstaged", func() bool { s, _ := d.driver.InUse(); return s == 0 })
	// One that comes while a call is under way waits for it.
	d.sync(claimPod(t, 3, "data"))
	d.ready(uid(3))
	before := d.called("NodeUnstageVolume vol-1")
	d.driver.HangCall("NodeUnstageVolume", "vol-1")
	d.sync()
	d.gone(uid(3))
	d.until("under way", func() bool { return d.called("NodeUnstageVolume vol-1") > before })
	d.sync(claimPod(t, 4, "data"))
	d.driver.GoCall("NodeUnstageVolume", "vol-1")
	d.ready(uid(4))
	d.sync()
	d.gone(uid(4))
	d.nothingLeft()
}

// What is staged may be of a pod whose records cannot be read: it stays.
func TestNothingIsUnstagedInDoubt(t *testing.T) {
	d := newLeft(t, codes.Internal)
	d.halt()
	bad := filepath.Join(d.root, "pods", string(uid(2)), csi.PodPart, "pv", "vol_data.json")
	if err := os.MkdirAll(filepath.Dir(bad), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, []byte(`{"driverName":"`+driverName+`","volumeHandle":"vol-1","targetPath":"/elsewhere"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.driver.Refuse("NodeUnstageVolume", "vol-1", codes.OK)
	tries := d.called("NodeUnstageVolume vol-1")
	d.restart()
	d.claim("other", persistent("vol-2"))
	d.sync(claimPod(t, 3, "other"))
	d.ready(uid(3))
	d.sync()
	d.gone(uid(3))
	if n := d.called("NodeUnstageVolume vol-1"); n != tries {
		t.Fatalf("unstaged %d times more", n-tries)
	}
	if err := os.RemoveAll(filepath.Join(d.root, "pods", string(uid(2)))); err != nil {
		t.Fatal(err)
	}
	d.restart()
	d.sync()
	d.await(uid(2), "gone", func(_ *model.PodVolumes, ok bool) bool { return !ok })
	d.nothingLeft()
}
