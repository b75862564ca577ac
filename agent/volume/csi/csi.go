package csi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
)

// callTimeout bounds one call to a driver, as upstream does.
const callTimeout = 2 * time.Minute

// republish is how often a volume of a driver that asks for it is published again.
const republish = time.Minute

// Errors that pass by themselves: nothing to log as a failure of this node.
var (
	// ErrNoDriver: no driver of that name has registered.
	ErrNoDriver = errors.New("not found in the list of registered CSI drivers")
	// ErrNotAttached: the volume is not attached to this node yet.
	ErrNotAttached = errors.New("not attached yet")
)

// Config has the values that rule this part.
type Config struct {
	// Root is the kubelet root directory, absolute; NodeName is this node's.
	Root, NodeName string
	// LimitPatience is how long a pod waits on a node that has enough volumes; 0 for upstream's two minutes.
	LimitPatience time.Duration
}

// API is what is read from and written to the API server.
type API interface {
	GetNode(ctx context.Context, name string) (*corev1.Node, error)
	PatchNode(ctx context.Context, name string, patch []byte) (*corev1.Node, error)
	PatchNodeStatus(ctx context.Context, name string, patch []byte) (*corev1.Node, error)
	GetCSINode(ctx context.Context, name string) (*storagev1.CSINode, error)
	CreateCSINode(ctx context.Context, n *storagev1.CSINode) (*storagev1.CSINode, error)
	UpdateCSINode(ctx context.Context, n *storagev1.CSINode) (*storagev1.CSINode, error)
	GetVolumeAttachment(ctx context.Context, name string) (*storagev1.VolumeAttachment, error)
	GetClaim(ctx context.Context, key model.Key) (*model.Claim, error)
	GetSecret(ctx context.Context, key model.Key) (*corev1.Secret, error)
	PatchClaimStatus(ctx context.Context, key model.Key, patch []byte) (*corev1.PersistentVolumeClaim, error)
	CreateToken(ctx context.Context, sa model.Key, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// Deps are the seams.
type Deps struct {
	API API
	Log *slog.Logger
	// Event tells users of an expansion; it never blocks; may be nil.
	Event func(ref corev1.ObjectReference, eventType, reason, message string)
	// Called is told of each call to a driver; may be nil.
	Called func(driver, method, code string, took time.Duration)
	// Registered is called when a driver has come: pods may wait for it; may be nil.
	Registered func(driver string)
	// Measured is told of each operation, by upstream's name, that takes a volume down; may be nil.
	Measured func(plugin, operation string, took time.Duration, err error)
	// Health is that of unstaging: it names the volumes that stay; may be nil.
	Health *reconcile.Health
	// LimitHealth is that of asking drivers how many volumes they take; may be nil.
	LimitHealth *reconcile.Health
}

// Volumes makes and removes the volumes of all drivers.
type Volumes struct {
	cfg     Config
	deps    Deps
	boot    string
	drivers drivers
	// locks has one lock for each volume, by its id.
	locks reconcile.Locks[string]
	users users
	inUse inUse
	// declined are expansions that wait for the volume not to be in use.
	declined declined
	// waits has since when volumes wait for room on this node, by pod and volume.
	waits waits
	// idle are volumes that their last pod has left.
	idle chan place
}

// New makes the part; it touches nothing yet.
func New(cfg Config, deps Deps) *Volumes {
	if deps.Called == nil {
		deps.Called = func(string, string, string, time.Duration) {}
	}
	if deps.Registered == nil {
		deps.Registered = func(string) {}
	}
	if deps.Event == nil {
		deps.Event = func(corev1.ObjectReference, string, string, string) {}
	}
	if deps.Measured == nil {
		deps.Measured = func(string, string, time.Duration, error) {}
	}
	return &Volumes{cfg: cfg, deps: deps, boot: bootID(), idle: make(chan place)}
}

// Request is one volume of one pod.
type Request struct {
	Pod    *corev1.Pod
	Volume *volumeplan.Volume
	// Bound is the PersistentVolume with its claim; nil for an ephemeral volume.
	Bound *model.Claim
}

func (r Request) uid() model.UID { return model.UID(r.Pod.UID) }

// Make makes the volume present for the pod: attached, staged, published, of
// the size and group it should be. What is there already costs two file reads.
// again > 0 asks to be called again after that time.
func (v *Volumes) Make(ctx context.Context, r Request) (again time.Duration, err error) {
	rec := v.record(r)
	release, err := v.locks.Acquire(ctx, rec.id())
	if err != nil {
		return 0, err
	}
	defer release()
	d, err := v.drivers.get(rec.Driver)
	if err != nil {
		return 0, v.unlessDone(rec, err)
	}
	defer d.release()
	j := job{Volumes: v, Request: r, rec: rec, driver: d}
	return j.run(ctx)
}

// unlessDone forgives a driver that is away when it has nothing to do.
func (v *Volumes) unlessDone(want record, err error) error {
	if have, ok := readRecord(v.podRecord(want.pod, want.Spec)); ok && have.sameVolume(want) && have.done(v.boot) {
		v.users.add(want.id(), want.pod)
		return nil
	}
	return err
}

// Remove unpublishes every volume that a pod has records of, those that were
// only begun too; Run unstages them. The caller sees to it that no container of the pod runs.
func (v *Volumes) Remove(ctx context.Context, uid model.UID) error {
	records, err := v.podRecords(uid)
	if err != nil {
		return err
	}
	errs := make([]error, len(records))
	var wg sync.WaitGroup
	for i, rec := range records {
		wg.Go(func() {
			if err := v.remove(ctx, rec); err != nil {
				errs[i] = fmt.Errorf("UnmountVolume.TearDown failed for volume %q : %w", rec.Spec, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
