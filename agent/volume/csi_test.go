package volume

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"nodelet/agent/volume/csi"
	"nodelet/agent/volume/csi/csitest"
	"nodelet/agent/volume/mount"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
)

const driverName = "fake.example.com"

// csiAPI is the part of the API server that CSI needs, in memory.
type csiAPI struct {
	mu          sync.Mutex
	node        *corev1.Node
	csiNode     *storagev1.CSINode
	attachments map[string]*storagev1.VolumeAttachment
	inUse       []string
	// live is the one claim.
	live *model.Claim
}

func notFound(kind, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
}

func (a *csiAPI) GetNode(context.Context, string) (*corev1.Node, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.node.DeepCopy(), nil
}

func (a *csiAPI) PatchNode(_ context.Context, _ string, patch []byte) (*corev1.Node, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.node, json.Unmarshal(patch, a.node)
}

func (a *csiAPI) PatchNodeStatus(_ context.Context, _ string, patch []byte) (*corev1.Node, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var n corev1.Node
	err := json.Unmarshal(patch, &n)
	a.inUse = nil
	for _, name := range n.Status.VolumesInUse {
		a.inUse = append(a.inUse, string(name))
	}
	return a.node, err
}

func (a *csiAPI) GetCSINode(_ context.Context, name string) (*storagev1.CSINode, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.csiNode == nil {
		return nil, notFound("csinodes", name)
	}
	return a.csiNode.DeepCopy(), nil
}

func (a *csiAPI) CreateCSINode(_ context.Context, n *storagev1.CSINode) (*storagev1.CSINode, error) {
	return a.UpdateCSINode(context.Background(), n)
}

func (a *csiAPI) UpdateCSINode(_ context.Context, n *storagev1.CSINode) (*storagev1.CSINode, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.csiNode = n.DeepCopy()
	return n, nil
}

func (a *csiAPI) GetVolumeAttachment(_ context.Context, name string) (*storagev1.VolumeAttachment, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.attachments[name]; v != nil {
		return v, nil
	}
	return nil, notFound("volumeattachments", name)
}

func (a *csiAPI) GetSecret(_ context.Context, key model.Key) (*corev1.Secret, error) {
	return &corev1.Secret{Data: map[string][]byte{"name": []byte(key.String())}}, nil
}

func (a *csiAPI) GetClaim(_ context.Context, key model.Key) (*model.Claim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.live == nil {
		return nil, notFound("persistentvolumeclaims", key.Name)
	}
	return a.live, nil
}

func (a *csiAPI) PatchClaimStatus(_ context.Context, key model.Key, patch []byte) (*corev1.PersistentVolumeClaim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.live == nil || a.live.Key != key {
		return nil, notFound("persistentvolumeclaims", key.Name)
	}
	next, err := patched(a.live, patch)
	if err != nil {
		return nil, err
	}
	a.live = next
	return next.Claim, nil
}

func (a *csiAPI) CreateToken(_ context.Context, sa model.Key, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	out := r.DeepCopy()
	out.Status.Token = fmt.Sprintf("token of %s for %v", sa, r.Spec.Audiences)
	return out, nil
}

// driven is a world with a CSI driver.
type driven struct {
	*world
	driver *csitest.Driver
	api    *csiAPI
	spec   storagev1.CSIDriverSpec
	// health is that of unstaging.
	health *reconcile.Health
}

func newDriven(t *testing.T, cfg csitest.Config, spec storagev1.CSIDriverSpec) *driven {
	t.Helper()
	d := &driven{world: newWorld(t), spec: spec, api: &csiAPI{
		attachments: map[string]*storagev1.VolumeAttachment{}, node: &corev1.Node{},
	}}
	dir, err := os.MkdirTemp("", "csi") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	cfg.Name, cfg.Dir, cfg.NodeID = driverName, dir, "node-1"
	if d.driver, err = csitest.Start(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.halt()
		d.csi.Close()
		d.driver.Stop()
		os.RemoveAll(dir)
		if b := d.driver.Breaches(); len(b) > 0 {
			t.Errorf("breaches of CSI:\n%s", strings.Join(b, "\n"))
		}
	})
	d.restart()
	return d
}

// restart is a daemon without memory.
func (d *driven) restart() {
	d.t.Helper()
	d.halt()
	if d.csi != nil {
		d.csi.Close()
	}
	d.health = &reconcile.Health{}
	d.csi = csi.New(csi.Config{Root: d.root, NodeName: "node-1", LimitPatience: patience}, csi.Deps{API: d.api, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Health: d.health, Event: d.events.Event})
	d.register()
	d.boot()
	d.drivers()
}

func (d *driven) register() {
	d.t.Helper()
	if err := d.csi.Register(d.t.Context(), driverName, d.driver.Endpoint(), []string{"1.0.0"}); err != nil {
		d.t.Fatal(err)
	}
}

// drivers puts the CSIDriver object into the store.
func (d *driven) drivers() {
	o := &storagev1.CSIDriver{Spec: d.spec}
	o.Name, o.ResourceVersion = driverName, fmt.Sprint(d.store.Snapshot().Revision)
	d.w.Drivers.Replace(map[model.Key]*storagev1.CSIDriver{{Name: driverName}: o})
}

func persistent(volume string) string {
	return "csi: {driver: " + driverName + ", volumeHandle: " + volume + ", nodeStageSecretRef: {namespace: s, name: stage}}"
}

func noAttach() storagev1.CSIDriverSpec {
	no := false
	return storagev1.CSIDriverSpec{AttachRequired: &no}
}

// nothingLeft: volumes are unstaged after their pods have gone.
func (d *driven) nothingLeft() {
	d.t.Helper()
	pattern := "plugins/kubernetes.io/csi/*/*/*"
	d.until("all unstaged", func() bool {
		left, _ := filepath.Glob(filepath.Join(d.root, pattern))
		s, _ := d.driver.InUse()
		return s == 0 && len(left) == 0
	})
	if s, p := d.driver.InUse(); s != 0 || p != 0 {
		d.t.Errorf("%d staged, %d published", s, p)
	}
	if m := d.mounts(); len(m) > 0 {
		d.t.Errorf("mounts left: %q", m)
	}
	for _, pattern := range []string{pattern, "plugins/kubernetes.io/csi/volumeDevices/*/*/*", "pods/*"} {
		if left, _ := filepath.Glob(filepath.Join(d.root, pattern)); len(left) > 0 {
			d.t.Errorf("left: %q", left)
		}
	}
}

func TestAVolumeOfADriverIsSharedAndGoesWithItsLastPod(t *testing.T) {
	d := newDriven(t, csitest.Config{FaultRate: -1}, noAttach())
	d.claim("data", persistent("vol-1"))
	first, second := claimPod(t, 1, "data"), claimPod(t, 2, "data")
	d.sync(first, second)
	place := d.ready(uid(1)).HostPaths["data"]
	if want := filepath.Join(d.root, "pods", string(uid(1)), "volumes/kubernetes.io~csi/pv-data/mount"); place != want {
		t.Fatalf("at %s, want %s", place, want)
	}
	if err := os.WriteFile(filepath.Join(place, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.read(filepath.Join(d.ready(uid(2)).HostPaths["data"], "f")); got != "x" {
		t.Fatalf("the other pod reads %q", got)
	}
	d.sync(second)
	d.gone(uid(1))
	if s, p := d.driver.InUse(); s != 1 || p != 1 {
		t.Fatalf("%d staged, %d published", s, p)
	}
	d.sync()
	d.gone(uid(2))
	d.nothingLeft()
	if got := d.read(filepath.Join(d.driver.Content("vol-1"), "f")); got != "x" {
		t.Fatalf("content is %q", got)
	}
}

func TestARestartedDaemonLeavesAloneWhatIsRightAndRemovesTheRest(t *testing.T) {
	d := newDriven(t, csitest.Config{FaultRate: -1}, noAttach())
	d.claim("a", persistent("vol-a"))
	d.claim("b", persistent("vol-b"))
	stays, goes := claimPod(t, 1, "a"), claimPod(t, 2, "b")
	d.sync(stays, goes)
	d.ready(uid(1))
	d.ready(uid(2))
	before := len(d.driver.Calls())
	d.restart()
	d.claim("a", persistent("vol-a"))
	d.sync(stays)
	d.ready(uid(1))
	d.gone(uid(2))
	d.until("one unstaged", func() bool { n, _ := d.driver.InUse(); return n == 1 })
	if got := d.driver.Calls()[before:]; !slices.Equal(got, []string{"NodeUnpublishVolume vol-b", "NodeUnstageVolume vol-b"}) {
		t.Fatalf("calls %q", got)
	}
	d.sync()
	d.gone(uid(1))
	d.nothingLeft()
}

func TestWhatADriverIsTold(t *testing.T) {
	yes, no, policy := true, false, storagev1.NoneFSGroupPolicy
	d := newDriven(t, csitest.Config{FaultRate: -1, Topology: map[string]string{"example.com/zone": "z1"}, MaxVolumes: 7}, storagev1.CSIDriverSpec{
		AttachRequired: &no, PodInfoOnMount: &yes, FSGroupPolicy: &policy, TokenRequests: []storagev1.TokenRequest{{Audience: "vault"}},
		VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{"Persistent", "Ephemeral"},
	})
	if e := d.api.csiNode.Spec.Drivers; len(e) != 1 || e[0].NodeID != "node-1" || *e[0].Allocatable.Count != 7 || e[0].TopologyKeys[0] != "example.com/zone" {
		t.Fatalf("CSINode %v", e)
	}
	if d.api.node.Labels["example.com/zone"] != "z1" {
		t.Fatalf("labels %v", d.api.node.Labels)
	}
	pod := parsePod(t, 1, "  - {name: tmp, csi: {driver: "+driverName+", volumeAttributes: {size: big}, nodePublishSecretRef: {name: mine}}}\n")
	pod.Spec.ServiceAccountName = "sa"
	d.sync(pod)
	d.ready(uid(1))
	calls := d.driver.Calls()
	if len(calls) != 1 || !strings.HasPrefix(calls[0], "NodePublishVolume csi-") {
		t.Fatalf("an ephemeral volume is not staged: %q", calls)
	}
	_, id, _ := strings.Cut(calls[0], " ")
	r := d.driver.Published(id)
	want := map[string]string{
		"size": "big", "csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/pod.name": "p1", "csi.storage.k8s.io/pod.namespace": "ns",
		"csi.storage.k8s.io/pod.uid": string(uid(1)), "csi.storage.k8s.io/serviceAccount.name": "sa",
		"csi.storage.k8s.io/serviceAccount.tokens": `{"vault":{"token":"token of ns/sa for [vault]","expirationTimestamp":null}}`,
	}
	if !maps.Equal(r.GetVolumeContext(), want) || r.GetSecrets()["name"] != "ns/mine" {
		t.Fatalf("context %v secrets %v", r.GetVolumeContext(), r.GetSecrets())
	}
	if u, ok, err := d.csi.Stats(t.Context(), uid(1), "tmp"); err != nil || !ok || u.Capacity != 1000 || u.InodesFree != 6 {
		t.Fatalf("stats %+v %t %v", u, ok, err)
	}
	d.statsAt()
	d.sync()
	d.gone(uid(1))
	d.nothingLeft()
}

func TestAttachmentIsAwaitedAndInUseIsToldFirst(t *testing.T) {
	d := newDriven(t, csitest.Config{FaultRate: -1}, storagev1.CSIDriverSpec{})
	d.claim("data", persistent("vol-1"))
	pod := claimPod(t, 1, "data")
	d.sync(pod)
	d.says(uid(1), model.VolumesFailed, "not attached yet")
	const name = "kubernetes.io/csi/" + driverName + "^vol-1"
	d.api.mu.Lock()
	if !slices.Equal(d.api.inUse, []string{name}) {
		t.Errorf("in use: %q", d.api.inUse)
	}
	d.api.node.Status.VolumesAttached = []corev1.AttachedVolume{{Name: name}}
	a := &storagev1.VolumeAttachment{Status: storagev1.VolumeAttachmentStatus{Attached: true, AttachmentMetadata: map[string]string{"lun": "3"}}}
	d.api.attachments[csi.AttachmentName("vol-1", driverName, "node-1")] = a
	d.api.mu.Unlock()
	d.ready(uid(1))
	if got := d.driver.Published("vol-1").GetPublishContext()["lun"]; got != "3" {
		t.Fatalf("publish context %q", got)
	}
	d.sync()
	d.gone(uid(1))
	d.nothingLeft()
	d.until("free to be detached", func() bool { return len(d.inUse()) == 0 })
}

// A pod that is gone before its volume was staged: after a refusal there is nothing to unstage, after a
// call of which nobody knows there may be.
func TestARefusalToStageIsNotTakenBack(t *testing.T) {
	for code, unstaged := range map[codes.Code]bool{codes.InvalidArgument: false, codes.Internal: false, codes.Aborted: true, codes.Unavailable: true} {
		t.Run(code.String(), func(t *testing.T) {
			d := newDriven(t, csitest.Config{FaultRate: -1}, noAttach())
			d.driver.Refuse("NodeStageVolume", "vol-1", code)
			d.claim("data", persistent("vol-1"))
			d.sync(claimPod(t, 1, "data"))
			d.says(uid(1), model.VolumesFailed, "NodeStageVolume")
			d.sync()
			d.gone(uid(1))
			d.nothingLeft()
			if got := slices.Contains(d.driver.Calls(), "NodeUnstageVolume vol-1"); got != unstaged {
				t.Errorf("unstaged: %t, calls %q", got, d.driver.Calls())
			}
		})
	}
}

// A CSIDriver that is made anew without attachment: the attach controller may detach what it attached.
func TestADriverThatAttachesNoMoreHoldsNothing(t *testing.T) {
	d := newDriven(t, csitest.Config{FaultRate: -1}, storagev1.CSIDriverSpec{})
	const name = "kubernetes.io/csi/" + driverName + "^"
	for _, v := range []string{"vol-1", "vol-2"} {
		d.claim(v, persistent(v))
	}
	d.api.mu.Lock()
	d.api.node.Status.VolumesAttached = []corev1.AttachedVolume{{Name: name + "vol-1"}}
	d.api.attachments[csi.AttachmentName("vol-1", driverName, "node-1")] = &storagev1.VolumeAttachment{Status: storagev1.VolumeAttachmentStatus{Attached: true}}
	d.api.mu.Unlock()
	d.sync(claimPod(t, 1, "vol-1"), claimPod(t, 2, "vol-2"))
	d.ready(uid(1))
	d.says(uid(2), model.VolumesFailed, "not attached yet")
	if got := d.inUse(); !slices.Equal(got, []string{name + "vol-1", name + "vol-2"}) {
		t.Fatalf("in use: %q", got)
	}
	d.spec = noAttach()
	d.drivers()
	d.ready(uid(2))
	d.until("free to be detached", func() bool { return len(d.inUse()) == 0 })
	d.restart()
	for _, v := range []string{"vol-1", "vol-2"} {
		d.claim(v, persistent(v))
	}
	d.sync(claimPod(t, 1, "vol-1"), claimPod(t, 2, "vol-2"))
	d.ready(uid(1))
	d.ready(uid(2))
	if got := d.inUse(); len(got) > 0 {
		t.Errorf("in use after a restart: %q", got)
	}
	d.sync()
	d.gone(uid(1))
	d.gone(uid(2))
	d.nothingLeft()
}

func (d *driven) inUse() []string {
	d.api.mu.Lock()
	defer d.api.mu.Unlock()
	return d.api.inUse
}

// A driver that hangs delays its own pods only: neither others nor their removal.
func TestADriverThatHangsDelaysNobodyElse(t *testing.T) {
	d := newDriven(t, csitest.Config{FaultRate: -1}, noAttach())
	for _, c := range []string{"stuck", "fine", "leaving"} {
		d.claim(c, persistent("vol-"+c))
	}
	stuck, fine, leaving := claimPod(t, 1, "stuck"), claimPod(t, 2, "fine"), claimPod(t, 3, "leaving")
	d.sync(leaving)
	d.ready(uid(3))
	d.driver.Hang("vol-stuck")
	d.sync(stuck, fine)
	d.ready(uid(2))
	d.gone(uid(3))
	// A pod that is deleted while its volume hangs is not waited for; what may have been done is undone.
	d.sync(fine)
	d.await(uid(1), "on its way out", func(r *model.PodVolumes, ok bool) bool { return ok && strings.HasPrefix(r.Message, "being removed") })
	d.driver.Go("vol-stuck")
	d.gone(uid(1))
	d.sync()
	d.gone(uid(2))
	d.nothingLeft()
}

// Whatever fails, and whenever the daemon is replaced: in the end what is
// wanted is there and nothing else is.
func TestAnyFaultsAndRestartsConverge(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			d := newDriven(t, csitest.Config{FaultRate: 0.3, Seed: seed}, noAttach())
			claims := func() {
				d.claim("a", persistent("vol-a"))
				d.claim("b", persistent("vol-b"))
			}
			claims()
			pods := []*corev1.Pod{claimPod(t, 1, "a"), claimPod(t, 2, "a"), claimPod(t, 3, "b"), claimPod(t, 4, "b")}
			d.sync(pods...)
			d.ready(uid(int(1 + seed%4))) // the others are somewhere on the way
			d.restart()
			claims()
			d.sync(pods[1:3]...)
			d.gone(uid(1))
			d.gone(uid(4))
			d.ready(uid(2))
			d.ready(uid(3))
			if s, p := d.driver.InUse(); s != 2 || p != 2 {
				t.Errorf("%d staged, %d published", s, p)
			}
			d.restart()
			d.sync()
			d.gone(uid(2))
			d.gone(uid(3))
			d.nothingLeft()
		})
	}
}

// What a driver left mounted behind its answer is never removed.
func TestNothingIsRemovedBehindAMountThatADriverLeft(t *testing.T) {
	d := newDriven(t, csitest.Config{FaultRate: -1}, noAttach())
	d.claim("data", persistent("vol-1"))
	d.sync(claimPod(t, 1, "data"))
	place := d.ready(uid(1)).HostPaths["data"]
	precious := filepath.Join(d.driver.Content("vol-1"), "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Mounted twice: the driver takes away one and thinks that it is done.
	root, err := os.Open(d.driver.Content("vol-1"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := mount.BindFD(int(root.Fd()), place); err != nil {
		t.Fatal(err)
	}
	d.sync()
	d.await(uid(1), "refused", func(r *model.PodVolumes, ok bool) bool { return ok && strings.Contains(r.Message, "being removed: ") })
	d.read(precious)
	d.gone(uid(1)) // each try takes away one more
	d.read(precious)
}

// statsAt asks by the path that the pod's container gets, and by others.
func (d *driven) statsAt() {
	d.t.Helper()
	row, _ := d.store.Snapshot().Volumes.Get(uid(1))
	at := row.HostPaths["tmp"]
	if u, ok, err := d.csi.StatsAt(d.t.Context(), at); err != nil || !ok || u.Capacity != 1000 {
		d.t.Errorf("%s: %+v %t %v", at, u, ok, err)
	}
	for _, other := range []string{"/", filepath.Dir(at), at + "/below", d.root, d.root + "/plugins/kubernetes.io/csi/volumeDevices/publish/none/u"} {
		if _, ok, err := d.csi.StatsAt(d.t.Context(), other); ok || err != nil {
			d.t.Errorf("%s is taken for a volume (%v)", other, err)
		}
	}
}
