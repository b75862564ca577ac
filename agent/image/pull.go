package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/image/imageplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// sync serves the requests for one image with one set of credentials: it asks
// the runtime for the image and pulls it when that is not enough. Failures are
// facts in the table, so it never fails itself: imageplan.Decide says when to
// ask again.
func (m *Images) sync(ctx context.Context, k key, _ *store.Snapshot) (time.Duration, error) {
	batch := m.queue.take(k)
	if len(batch) == 0 {
		return 0, nil
	}
	defer m.prune(k.ref)
	name, err := imageplan.WithTag(string(k.ref))
	if err != nil {
		m.note(k, func(p *model.Pull) { fail(p, imageplan.InvalidImageName, err.Error()) })
		m.tellAll(batch, corev1.EventTypeWarning, "InspectFailed", fmt.Sprintf("Failed to apply default image tag %q: %v", k.ref, err))
		return 0, nil
	}
	present, err := m.look(ctx, k, name)
	if ctx.Err() != nil {
		return 0, nil
	}
	if err != nil {
		m.note(k, func(p *model.Pull) { fail(p, imageplan.ImageInspectError, err.Error()) })
		m.tellAll(batch, corev1.EventTypeWarning, "InspectFailed", fmt.Sprintf("Failed to inspect image %q: %v", name, err))
		return 0, nil
	}
	if pull := m.settle(k, batch, present); len(pull) > 0 {
		m.pull(ctx, k, name, pull)
	}
	return 0, nil
}

// settle answers the requests that need no pull, and gives those that need one and may have it now.
func (m *Images) settle(k key, batch []request, present bool) (pull []request) {
	row, _ := m.deps.Store.Snapshot().Images.Get(k.ref)
	for _, r := range batch {
		switch {
		case imageplan.Decide(row, r.need(), time.Now()).Ask:
			pull = append(pull, r)
		case present:
			m.tell(r, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine", k.ref))
		case r.Policy == corev1.PullNever:
			m.tell(r, corev1.EventTypeWarning, imageplan.ErrImageNeverPull, fmt.Sprintf("Container image %q is not present with pull policy of Never", k.ref))
		}
	}
	return pull
}

// look asks the runtime for the image and notes the answer.
func (m *Images) look(ctx context.Context, k key, name string) (present bool, err error) {
	got, err := m.deps.Runtime.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: name}})
	if err != nil {
		return false, err
	}
	img := got.GetImage()
	m.change(k.ref, func(i *model.Image) {
		i.ID, i.UID, i.Username, i.Checked = img.GetId(), nil, img.GetUsername(), time.Now()
		if uid := img.GetUid(); uid != nil {
			i.UID = &uid.Value
		}
	})
	return img.GetId() != "", nil
}

// pull pulls the image for these requests, once there is a free place.
func (m *Images) pull(ctx context.Context, k key, name string, batch []request) {
	asked := time.Now()
	m.note(k, func(p *model.Pull) { p.State = model.ImagePulling })
	m.tellAll(batch, corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", k.ref))
	for _, warning := range batch[0].access.Warnings {
		m.tellAll(batch, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", warning+"; the image is pulled without it")
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return
	}
	begun := time.Now()
	err := m.tryAll(ctx, name, batch[0])
	if ctx.Err() != nil {
		return // the daemon ends; the table ends with it
	}
	if err != nil {
		// A call whose answer was lost may have done its work: the table says whether the image is there.
		if _, errLook := m.look(ctx, k, name); errLook != nil {
			m.deps.Log.Warn("look for image after a pull that failed", "image", name, "err", errLook)
		}
		reason, message := explain(string(k.ref), err)
		m.note(k, func(p *model.Pull) { fail(p, reason, message) })
		m.tellAll(batch, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %v", k.ref, err))
		return
	}
	m.pulled(ctx, k, name, batch)
	m.tellAll(batch, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %s (%s including waiting)",
		k.ref, time.Since(begun).Truncate(time.Millisecond), time.Since(asked).Truncate(time.Millisecond)))
}

// tryAll pulls with each of the credentials until one works, or without any when there are none.
func (m *Images) tryAll(ctx context.Context, name string, r request) error {
	req := &runtimev1.PullImageRequest{
		Image: &runtimev1.ImageSpec{Image: name, Annotations: r.Pod.Annotations},
		SandboxConfig: &runtimev1.PodSandboxConfig{
			Metadata:    &runtimev1.PodSandboxMetadata{Name: r.Pod.Name, Namespace: r.Pod.Namespace, Uid: string(r.Pod.UID)},
			Annotations: r.Pod.Annotations,
		},
	}
	auths := slices.Concat(r.access.Auths, m.nodeLogins(ctx, name))
	if len(auths) == 0 {
		return m.ask(ctx, req)
	}
	var errs []error
	for _, auth := range auths {
		// The runtime may keep a request, so each try has its own.
		err := m.ask(ctx, &runtimev1.PullImageRequest{
			Image: req.Image, SandboxConfig: req.SandboxConfig,
			Auth: &runtimev1.AuthConfig{Username: auth.Username, Password: auth.Password},
		})
		if err == nil || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ask has the runtime pull once, as soon as the rate of pulls allows it.
func (m *Images) ask(ctx context.Context, req *runtimev1.PullImageRequest) error {
	if err := m.rate.Wait(ctx); err != nil {
		return err
	}
	_, err := m.deps.Runtime.PullImage(ctx, req)
	return err
}

// nodeLogins are those of the node itself for an image: its login file's and its plugins'.
func (m *Images) nodeLogins(ctx context.Context, name string) []imageplan.Auth {
	var logins []imageplan.Login
	if m.cfg.LoginFile != "" {
		b, err := os.ReadFile(m.cfg.LoginFile)
		if err == nil {
			logins, err = imageplan.ReadLogins(b)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.deps.Log.Warn("read the login file of the node, pulling without what cannot be read", "file", m.cfg.LoginFile, "err", err)
		}
	}
	auths := imageplan.Choose(logins, name)
	if m.deps.Logins != nil {
		auths = append(auths, imageplan.Choose(m.deps.Logins(ctx, name), name)...)
	}
	return auths
}

// pulled notes a pull that worked. The runtime is asked for the image once
// more: its answer has the id that status uses and the image's user.
func (m *Images) pulled(ctx context.Context, k key, name string, batch []request) {
	present, err := m.look(ctx, k, name)
	if err == nil && !present {
		err = errors.New("the runtime pulled the image but does not have it")
	}
	if err != nil {
		m.note(k, func(p *model.Pull) { fail(p, imageplan.ImageInspectError, err.Error()) })
		return
	}
	m.note(k, func(p *model.Pull) {
		served := map[model.ContainerKey]uint32{}
		maps.Copy(served, p.Served)
		for _, r := range batch {
			served[r.container()] = r.Attempt
		}
		*p = model.Pull{State: model.ImagePresent, Served: served}
	})
}

// explain gives a failed pull the API's reason: runtimes put some of them in front of their message.
func explain(ref string, err error) (reason, message string) {
	text := err.Error()
	for prefix, what := range map[string]string{
		"RegistryUnavailable":       "the registry is unavailable",
		"SignatureValidationFailed": "the signature validation failed",
	} {
		if _, rest, ok := strings.Cut(text, prefix); ok {
			return prefix, fmt.Sprintf("image pull failed for %s because %s%s", ref, what, rest)
		}
	}
	return imageplan.ErrImagePull, text
}

func fail(p *model.Pull, reason, message string) {
	p.State, p.Failed, p.Reason, p.Message = model.ImageFailed, time.Now(), reason, message
	p.Attempts++
}
