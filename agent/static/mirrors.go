package static

import (
	"context"
	"fmt"
	"iter"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"nodelet/agent/podstatus"
	"nodelet/agent/static/staticplan"
	"nodelet/internal/model"
	"nodelet/internal/podref"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// refused is how long to wait after the API refused an image for a reason that waiting does not mend by itself.
const refused = 30 * time.Second

// mirrors is the loop that keeps the images of static pods in the API, one worker a name.
func (s *Static) mirrors() *reconcile.Keyed[model.Key] {
	return &reconcile.Keyed[model.Key]{
		Name: "mirror pods", Store: s.deps.Store, Log: s.deps.Log, Health: s.deps.MirrorHealth,
		// Both tables come with one list; before it an image that is there would seem missing.
		Ready:  func(n *store.Snapshot) bool { return n.Pods.Synced() && n.Mirrors.Synced() },
		Keys:   s.mirrorKeys,
		Sync:   s.mirror,
		Resync: 10 * time.Minute,
	}
}

// mirrorKeys yields the names whose pod or image changed, and all when the node has become known.
func (s *Static) mirrorKeys(prev, next *store.Snapshot) iter.Seq[model.Key] {
	return func(yield func(model.Key) bool) {
		if prev == nil || s.node(prev) == nil && s.node(next) != nil {
			prev = &store.Snapshot{}
		}
		for d := range next.Pods.Since(prev.Pods) {
			for _, pod := range []*corev1.Pod{d.Old, d.New} {
				if pod != nil && podref.IsStatic(pod) && !yield(keyOf(pod)) {
					return
				}
			}
		}
		for d := range next.Mirrors.Since(prev.Mirrors) {
			for _, pod := range []*corev1.Pod{d.Old, d.New} {
				if pod != nil && !yield(keyOf(pod)) {
					return
				}
			}
		}
	}
}

func (s *Static) node(snap *store.Snapshot) *model.Node {
	node, _ := snap.Nodes.Get(model.Key{Name: s.cfg.NodeName})
	return node
}

// mirror brings the image of one static pod up to date.
func (s *Static) mirror(ctx context.Context, key model.Key, snap *store.Snapshot) (time.Duration, error) {
	pod := named(snap.Pods, key, podref.IsStatic)
	image := named(snap.Mirrors, key, podref.IsMirror)
	todo := staticplan.MirrorOf(pod, image, s.node(snap))
	switch {
	case todo.Delete != nil:
		if err := s.deps.API.DeletePod(ctx, key, model.UID(todo.Delete.UID)); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return 0, fmt.Errorf("delete mirror pod %s: %w", key, err)
		}
	case todo.Create != nil:
		return s.create(ctx, key, todo.Create)
	case todo.Patch:
		patch, err := podstatus.Patch(image, &pod.Status)
		if err != nil {
			return 0, err
		}
		if _, err := s.deps.API.PatchPodStatus(ctx, key, model.UID(image.UID), patch); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return 0, fmt.Errorf("write status of mirror pod %s: %w", key, err)
		}
	}
	return 0, nil
}

// create makes an image. What the API will not have is asked for again rarely: the pod runs without it.
func (s *Static) create(ctx context.Context, key model.Key, image *corev1.Pod) (time.Duration, error) {
	_, err := s.deps.API.CreatePod(ctx, image)
	switch {
	case err == nil:
		return 0, nil
	case apierrors.IsAlreadyExists(err), apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		s.deps.Log.Warn("create mirror pod, the static pod runs without", "pod", key, "err", err, "retryIn", refused)
		return refused, nil
	}
	return 0, fmt.Errorf("create mirror pod %s: %w", key, err)
}

func named(table store.Table[model.UID, *corev1.Pod], key model.Key, which func(*corev1.Pod) bool) (found *corev1.Pod) {
	for _, pod := range table.All() {
		if keyOf(pod) == key && which(pod) {
			found = pod
		}
	}
	return found
}

func keyOf(pod *corev1.Pod) model.Key { return model.Key{Namespace: pod.Namespace, Name: pod.Name} }
