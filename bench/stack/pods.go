package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/bench/area"
)

const podsPath = "/api/v1/namespaces/default/pods"

// Pod is one container, bound to the node: no scheduler takes part.
func Pod(name, image string, commandLine ...string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"bench": "pod"}},
		Spec: corev1.PodSpec{
			NodeName: area.NodeName, TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{Name: "main", Image: image, ImagePullPolicy: corev1.PullNever, Command: commandLine}},
		},
	}
}

// Create writes a pod.
func (a *API) Create(ctx context.Context, p *corev1.Pod) error {
	return a.Do(ctx, http.MethodPost, podsPath, p, nil)
}

// Delete asks for a pod's end, with its own grace period.
func (a *API) Delete(ctx context.Context, name string) error {
	return a.Do(ctx, http.MethodDelete, podsPath+"/"+name, nil, nil)
}

// Ready tells whether a pod runs and is Ready.
func Ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.Status.Phase == corev1.PodRunning
		}
	}
	return false
}

// Watcher tells when pods become what is waited for, by the time at which the event arrived.
type Watcher struct {
	mu      sync.Mutex
	waiting []*waiter
	cancel  context.CancelFunc
}

type waiter struct {
	name string
	is   func(*corev1.Pod) bool // nil: it is gone
	at   chan time.Time
}

// WatchPods begins to watch; it returns once the watch is established.
func (a *API) WatchPods(ctx context.Context) (*Watcher, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{cancel: cancel}
	established, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		failed <- Watch(ctx, a, podsPath+"?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", func(e Event[corev1.Pod]) bool {
			if e.Type == "BOOKMARK" {
				if first {
					first = false
					close(established)
				}
				return true
			}
			w.take(e, time.Now())
			return true
		})
	}()
	select {
	case <-established:
		return w, nil
	case err := <-failed:
		cancel()
		return nil, fmt.Errorf("watch pods: %w", err)
	}
}

// Stop ends the watch.
func (w *Watcher) Stop() { w.cancel() }

func (w *Watcher) take(e Event[corev1.Pod], now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.waiting[:0]
	for _, x := range w.waiting {
		gone := e.Type == "DELETED"
		if x.name == e.Object.Name && (x.is == nil && gone || x.is != nil && !gone && x.is(&e.Object)) {
			x.at <- now
			continue
		}
		rest = append(rest, x)
	}
	w.waiting = rest
}

// Expect gives a channel with the time at which the pod is so; nil: gone. Ask before you act.
func (w *Watcher) Expect(name string, is func(*corev1.Pod) bool) <-chan time.Time {
	x := &waiter{name, is, make(chan time.Time, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, x)
	return x.at
}

// Await is what Expect promised, or an error.
func Await(ctx context.Context, what string, at <-chan time.Time) (time.Time, error) {
	select {
	case t := <-at:
		return t, nil
	case <-time.After(podLimit):
		return time.Time{}, fmt.Errorf("%s: not within %s", what, podLimit)
	case <-ctx.Done():
		return time.Time{}, errors.Join(fmt.Errorf("%s: interrupted", what), ctx.Err())
	}
}

// podLimit is far more than anything of a pod takes.
const podLimit = 3 * time.Minute
