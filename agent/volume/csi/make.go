package csi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/agent/volume/mount"
	"nodelet/agent/volume/owner"
	"nodelet/internal/model"
)

// job makes one volume of one pod; the volume is locked.
type job struct {
	*Volumes
	Request
	rec    record
	driver *driver
	// staged is the directory the volume is staged in, empty for a driver that does not stage.
	staged string
	// context is what the attacher says of the volume.
	context map[string]string
}

func (j *job) run(ctx context.Context) (again time.Duration, err error) {
	have, ok := readRecord(j.podRecord(j.rec.pod, j.rec.Spec))
	done := ok && have.sameVolume(j.rec) && have.done(j.boot)
	if j.Volume.CSI.Republish {
		again = republish
	}
	j.users.add(j.rec.id(), j.rec.pod)
	if err := j.noLongerAttached(ctx, have, done); err != nil {
		return 0, err
	}
	var known resource.Quantity
	if done {
		known, j.rec.Size = have.known(), have.Size
	}
	if done && again == 0 && !j.grows(known) {
		return 0, nil
	}
	if !done {
		if err := j.begin(ctx); err != nil {
			return 0, err
		}
	}
	if err := j.attach(ctx); err != nil {
		return 0, err
	}
	if err := j.stage(ctx); err != nil {
		return 0, fmt.Errorf("NodeStageVolume: %w", err)
	}
	if !done || again > 0 {
		if err := j.publish(ctx, done); err != nil {
			return 0, fmt.Errorf("NodePublishVolume: %w", err)
		}
	}
	switch err := j.expand(ctx, known); {
	case err != nil && done:
		return again, j.stillSmall(err)
	case err != nil:
		return 0, err
	case done && j.rec.Size == have.Size:
		return again, nil
	}
	if done {
		have.Size = j.rec.Size
		return again, writeRecord(j.podRecord(j.rec.pod, j.rec.Spec), have)
	}
	j.rec.Size = cmp.Or(j.rec.Size, told(j.Bound))
	if own := j.Volume.Own; own != nil && !j.driver.can(csipb.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP) {
		if err := owner.Apply(ctx, j.rec.Target, owner.Change{GID: int(own.GID), OnlyOnMismatch: own.OnlyOnMismatch, Slow: func(message string) {
			j.deps.Event(j.podRef(), corev1.EventTypeWarning, owner.Reason, message)
		}}); err != nil {
			return 0, err
		}
	}
	j.rec.Done = j.boot
	return again, writeRecord(j.podRecord(j.rec.pod, j.rec.Spec), j.rec)
}

// begin notes what is about to be made.
func (j *job) begin(ctx context.Context) error {
	if err := writeRecord(j.podRecord(j.rec.pod, j.rec.Spec), j.rec); err != nil {
		return err
	}
	if !j.rec.Attach {
		return nil
	}
	// The attach controller must know that the volume is in use before it is used:
	// from then on it does not detach it.
	j.inUse.add(j.rec.id())
	return j.reportInUse(ctx)
}

// stage asks the driver to prepare the volume on this node, once for all pods.
func (j *job) stage(ctx context.Context) error {
	dir, file := j.staging(j.rec)
	if j.rec.Mode == "Ephemeral" || !j.driver.can(csipb.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME) {
		return nil
	}
	j.staged = dir
	rec := record{Spec: j.rec.Spec, Handle: j.rec.Handle, Driver: j.rec.Driver, Block: j.rec.Block, Attach: j.rec.Attach}
	have, known := readRecord(file)
	if known && have.Handle == rec.Handle && have.done(j.boot) {
		return nil
	}
	secrets, err := j.secret(ctx, j.Volume.CSI.StageSecret)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if err := writeRecord(file, rec); err != nil {
		return err
	}
	_, err = call(ctx, j.driver, "NodeStageVolume", j.driver.node.NodeStageVolume, &csipb.NodeStageVolumeRequest{
		VolumeId: j.rec.Handle, PublishContext: j.context, StagingTargetPath: dir,
		VolumeCapability: j.capability(), Secrets: secrets, VolumeContext: j.persistent(),
	})
	if err != nil {
		if final(err) && !known { // what was staged before, and perhaps half taken down, is not undone by a refusal
			forgetStaging(dir, file)
		}
		return err
	}
	rec.Done = j.boot
	return writeRecord(file, rec)
}

// final tells a driver's refusal, after which nothing is staged, from a call of which nobody knows
// whether it goes on. The codes are upstream's, from gRPC's status codes and the CSI specification.
func final(err error) bool {
	if _, ok := status.FromError(err); !ok {
		return false // the call may not have come to its end
	}
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return false
	}
	return true
}

// forgetStaging removes the trace of a staging that the driver refused: there is nothing to unstage.
// Directories that are not empty, or mounted on, stay.
func forgetStaging(dir, file string) {
	_ = os.Remove(file)
	_ = os.Remove(dir)
	_ = os.Remove(filepath.Dir(file))
}

// persistent are the attributes of the volume itself, without what is of the pod.
func (j *job) persistent() map[string]string {
	if j.Bound != nil && j.Bound.Volume != nil && j.Bound.Volume.Spec.CSI != nil {
		return j.Bound.Volume.Spec.CSI.VolumeAttributes
	}
	return nil
}

func (j *job) publish(ctx context.Context, again bool) error {
	c := j.Volume.CSI
	secrets, err := j.secret(ctx, c.PublishSecret)
	if err != nil {
		return err
	}
	attributes := maps.Clone(c.Attributes)
	if len(c.Tokens) > 0 {
		tokens, err := j.tokens(ctx)
		if err != nil {
			return err
		}
		into := &attributes
		if c.TokensInSecret {
			into = &secrets
		}
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)["csi.storage.k8s.io/serviceAccount.tokens"] = tokens
	}
	// The driver makes the target itself, below a directory that is there.
	if err := os.MkdirAll(filepath.Dir(j.rec.Target), 0o750); err != nil {
		return err
	}
	_, err = call(ctx, j.driver, "NodePublishVolume", j.driver.node.NodePublishVolume, &csipb.NodePublishVolumeRequest{
		VolumeId: j.rec.Handle, PublishContext: j.context, StagingTargetPath: j.staged, TargetPath: j.rec.Target,
		VolumeCapability: j.capability(), Readonly: j.Volume.ReadOnly, Secrets: secrets, VolumeContext: attributes,
	})
	if err != nil && again {
		// Containers go on with what was published before.
		j.deps.Log.Warn("publish CSI volume again", "pod", j.rec.pod, "volume", j.rec.Spec, "err", err)
		return nil
	}
	return err
}

// tokens asks for the tokens the driver wants of the pod's service account.
func (j *job) tokens(ctx context.Context) (string, error) {
	out := map[string]authenticationv1.TokenRequestStatus{}
	for _, t := range j.Volume.CSI.Tokens {
		status, err := j.token(ctx, t)
		if err != nil {
			return "", fmt.Errorf("fetch token for driver %s: %w", j.rec.Driver, err)
		}
		out[t.Audience] = status
	}
	text, err := json.Marshal(out)
	return string(text), err
}

func (j *job) token(ctx context.Context, t storagev1.TokenRequest) (authenticationv1.TokenRequestStatus, error) {
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: t.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: j.Pod.Name, UID: j.Pod.UID},
	}}
	if t.Audience != "" {
		req.Spec.Audiences = []string{t.Audience}
	}
	account := model.Key{Namespace: j.Pod.Namespace, Name: j.Pod.Spec.ServiceAccountName}
	if account.Name == "" {
		account.Name = "default"
	}
	got, err := j.deps.API.CreateToken(ctx, account, req)
	if err != nil {
		return authenticationv1.TokenRequestStatus{}, err
	}
	return got.Status, nil
}

// secret reads what a driver needs for a call; nothing is kept.
func (j *job) secret(ctx context.Context, key model.Key) (map[string]string, error) {
	if key.Name == "" {
		return nil, nil
	}
	s, err := j.deps.API.GetSecret(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("fetch secret %s of the volume: %w", key, err)
	}
	out := make(map[string]string, len(s.Data))
	for k, v := range s.Data {
		out[k] = string(v)
	}
	return out, nil
}

// remove takes down one volume of a pod: unpublished, and forgotten. What is staged is of no pod: see Run.
func (v *Volumes) remove(ctx context.Context, rec record) (err error) {
	release, err := v.locks.Acquire(ctx, rec.id())
	if err != nil {
		return err
	}
	defer release()
	d, err := v.drivers.get(rec.Driver)
	if err != nil {
		return err
	}
	defer d.release()
	start := time.Now()
	defer func() {
		v.deps.Measured(plugin, operation(rec.Block, "unmap_volume", "volume_unmount"), time.Since(start), err)
	}()
	_, err = call(ctx, d, "NodeUnpublishVolume", d.node.NodeUnpublishVolume, &csipb.NodeUnpublishVolumeRequest{VolumeId: rec.Handle, TargetPath: rec.Target})
	if err != nil {
		return fmt.Errorf("NodeUnpublishVolume: %w", err)
	}
	if err := mount.RemoveTree(rec.Target); err != nil {
		return err
	}
	if err := v.keepAttached(rec); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Dir(v.podRecord(rec.pod, rec.Spec))); err != nil {
		return fmt.Errorf("remove record of volume: %w", err)
	}
	v.users.remove(rec.id(), rec.pod)
	v.waits.forget(rec.waitKey())
	if v.users.any(rec.id()) {
		return nil
	}
	v.declined.forget(rec.id())
	select {
	case v.idle <- v.place(rec):
	case <-ctx.Done(): // the next daemon finds it
	}
	return nil
}
