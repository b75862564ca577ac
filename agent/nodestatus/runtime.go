package nodestatus

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/nodestatus/nodeplan"
	"nodelet/internal/store"
)

const (
	// askInterval is upstream's: how often a runtime that is ready is asked.
	askInterval = 5 * time.Second
	// askEagerly and askEagerlyMax bound how often one that is not ready is asked: nothing tells us
	// when it becomes ready, and the node's Ready waits for that.
	askEagerly    = 20 * time.Millisecond
	askEagerlyMax = 200 * time.Millisecond
	// askTimeout bounds one question. It is shorter than nodeplan.Grace, so that one question that
	// hangs is not the end of readiness yet.
	askTimeout = 10 * time.Second
	// imagesInterval is how often the images are listed when nothing is known to have changed.
	imagesInterval = 5 * time.Minute
	// maxImages and maxImageNames are upstream's bounds on the list in the Node object.
	maxImages, maxImageNames = 50, 5
)

// askRuntime asks the runtime how it is until ctx ends. Whatever hangs, hangs here only.
func (n *NodeStatus) askRuntime(ctx context.Context) {
	var images imageList
	wait := askEagerly
	for ctx.Err() == nil {
		ready := n.askOnce(ctx)
		switch {
		case ready:
			n.listImages(ctx, &images)
			wait = askInterval
		case wait >= askInterval:
			wait = askEagerly
		default:
			wait = min(2*wait, askEagerlyMax)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-n.poke:
			wait = askEagerly
		}
		timer.Stop()
	}
}

// askOnce asks once and wakes the status loop when the answer is another than before.
func (n *NodeStatus) askOnce(ctx context.Context) (ready bool) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := n.deps.Runtime.Status(ctx, &runtimev1.StatusRequest{})
	if err != nil {
		n.deps.Log.Debug("ask the runtime for its status", "err", err)
		return false
	}
	next := conditions(s)
	n.mu.Lock()
	before := n.runtime
	n.mu.Unlock()
	next.Name, next.Version, next.Answered = before.Name, before.Version, before.Answered
	if next.Runtime != nil && next.Runtime.Status {
		next.Answered = time.Now()
	}
	if next.Name == "" || !before.Ready() {
		if v, err := n.deps.Runtime.Version(ctx, &runtimev1.VersionRequest{}); err == nil {
			next.Name, next.Version = v.RuntimeName, v.RuntimeVersion
		}
	}
	n.mu.Lock()
	n.runtime = next
	n.mu.Unlock()
	if changed(before, next) {
		signal(n.wake)
	}
	return next.Ready()
}

// changed tells whether two answers differ in what the status shows. A runtime that was silent for
// too long and is back is news as well.
func changed(a, b nodeplan.Runtime) bool {
	silent := b.Answered.Sub(a.Answered) >= nodeplan.Grace
	a.Answered, b.Answered = time.Time{}, time.Time{}
	return silent || !reflect.DeepEqual(a, b)
}

// conditions reads the runtime's answer.
func conditions(s *runtimev1.StatusResponse) nodeplan.Runtime {
	var r nodeplan.Runtime
	for _, c := range s.GetStatus().GetConditions() {
		got := &nodeplan.Condition{Type: c.GetType(), Status: c.GetStatus(), Reason: c.GetReason(), Message: c.GetMessage()}
		switch c.GetType() {
		case runtimev1.RuntimeReady:
			r.Runtime = got
		case runtimev1.NetworkReady:
			r.Network = got
		}
	}
	for _, h := range s.GetRuntimeHandlers() {
		r.Handlers = append(r.Handlers, nodeplan.Handler{
			Name:              h.GetName(),
			RecursiveReadOnly: h.GetFeatures().GetRecursiveReadOnlyMounts(),
			UserNamespaces:    h.GetFeatures().GetUserNamespaces(),
		})
	}
	slices.SortFunc(r.Handlers, func(a, b nodeplan.Handler) int { return cmp.Compare(a.Name, b.Name) })
	r.SupplementalGroups = s.GetFeatures().GetSupplementalGroupsPolicy()
	return r
}

// imageList remembers for which state of the store the images were listed, and when.
type imageList struct {
	last store.Revision
	at   time.Time
}

// listImages lists the images when one was pulled, or none was listed for a while. The next look at
// the status shows them: an image is no reason to hurry.
func (n *NodeStatus) listImages(ctx context.Context, l *imageList) {
	last := n.deps.Store.Snapshot().Images.Last()
	now := time.Now()
	if last == l.last && !l.at.IsZero() && now.Sub(l.at) < imagesInterval {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := n.deps.Runtime.ListImages(ctx, &runtimev1.ListImagesRequest{})
	if err != nil {
		n.deps.Log.Debug("list images", "err", err)
		return
	}
	l.last, l.at = last, now
	images := largest(resp.GetImages(), n.cfg.mostImages(len(resp.GetImages())))
	n.mu.Lock()
	n.images = images
	n.mu.Unlock()
}

// mostImages is how many of so many images the status names.
func (c *Config) mostImages(all int) int {
	switch {
	case c.NoImages:
		return 0
	case c.MaxImages < 0:
		return all
	case c.MaxImages == 0:
		return min(all, maxImages)
	}
	return min(all, c.MaxImages)
}

// largest gives the largest images, at most so many, as the Node object shows them.
func largest(images []*runtimev1.Image, most int) []corev1.ContainerImage {
	images = slices.Clone(images)
	slices.SortFunc(images, func(a, b *runtimev1.Image) int {
		return cmp.Or(cmp.Compare(b.GetSize(), a.GetSize()), cmp.Compare(a.GetId(), b.GetId()))
	})
	all := []corev1.ContainerImage{} // not nil: they have been listed
	for _, i := range images[:most] {
		names := slices.Concat(i.GetRepoDigests(), i.GetRepoTags())
		all = append(all, corev1.ContainerImage{Names: names[:min(len(names), maxImageNames)], SizeBytes: int64(i.GetSize())})
	}
	return all
}
