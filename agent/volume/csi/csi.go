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
	GetSecret(ctx context.Context, key model.Key) (*corev1.Secret, error)
	PatchClaimStatus(ctx context.Context, key model.Key, patch []byte) (*corev1.PersistentVolumeClaim, error)
	CreateToken(ctx context.Context, sa model.Key, req *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// Deps are the seams.
type Deps struct {
	API API
	Log *slog.Logger
	// Called is told of each call to a driver; may be nil.
	Called func(driver, method, code string, took time.Duration)
	// Registered is called when a driver has come: pods may wait for it; may be nil.
	Registered func(driver string)
}

// Volumes makes and removes the volumes of all drivers.
type Volumes struct {
	cfg     Config
	deps    Deps
	boot    string
	drivers drivers
	locks   locks
	users   users
	inUse   inUse
}

// New makes the part; it touches nothing yet.
func New(cfg Config, deps Deps) *Volumes {
	if deps.Called == nil {
		deps.Called = func(string, string, string, time.Duration) {}
	}
	if deps.Registered == nil {
		deps.Registered = func(string) {}
	}
	return &Volumes{cfg: cfg, deps: deps, boot: bootID()}
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
	release, err := v.locks.acquire(ctx, rec.id())
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

// Remove takes down every volume that a pod has records of, those that were
// only begun too. The caller sees to it that no container of the pod runs.
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

// locks is one lock for each volume.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	token chan struct{}
	users int
}

// acquire waits for the lock of a volume, or for the end of ctx.
func (l *locks) acquire(ctx context.Context, id string) (release func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*lock{}
	}
	k := l.held[id]
	if k == nil {
		k = &lock{token: make(chan struct{}, 1)}
		l.held[id] = k
	}
	k.users++
	l.mu.Unlock()
	drop := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.held, id)
		}
	}
	select {
	case k.token <- struct{}{}:
		return func() { <-k.token; drop() }, nil
	case <-ctx.Done():
		drop()
		return nil, ctx.Err()
	}
}
