package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// podLimit is far more than one pod takes.
const podLimit = time.Minute

const podsPath = "/api/v1/namespaces/default/pods"

// startPods starts pods one after the other and takes the time of each, from the API write to the
// watch event that shows it Ready.
func startPods(ctx context.Context, a *api, n int, rep *report) error {
	for i := range n {
		took, err := startPod(ctx, a, fmt.Sprintf("one-%d", i))
		if err != nil {
			return err
		}
		if i > 0 { // the first one warms everything up
			rep.add("one pod, API write to Ready", took)
		}
	}
	return nil
}

// startPod starts one pod, and removes it before it returns.
func startPod(ctx context.Context, a *api, name string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, podLimit)
	defer cancel()
	var seen time.Time // written by the watcher until done receives
	watching, done := make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		// An object that does not change makes the watch speak up at once.
		done <- watch(ctx, a, podsPath+"?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&fieldSelector=metadata.name%3D"+name,
			func(e event[corev1.Pod]) bool {
				if first {
					first = false
					close(watching)
				}
				seen = time.Now()
				return !isReady(&e.Object)
			})
	}()
	select {
	case <-watching:
	case err := <-done:
		return 0, err
	}
	begin := time.Now()
	if err := a.do(ctx, http.MethodPost, podsPath, pod(name), nil); err != nil {
		return 0, err
	}
	if err := <-done; err != nil {
		return 0, fmt.Errorf("pod %s does not become Ready: %w", name, err)
	}
	return seen.Sub(begin), removePod(ctx, a, name)
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// removePod deletes a pod and waits until it is gone.
func removePod(ctx context.Context, a *api, name string) error {
	if err := a.do(ctx, http.MethodDelete, podsPath+"/"+name+"?gracePeriodSeconds=1", nil, nil); err != nil {
		return err
	}
	for {
		var list corev1.PodList
		if err := a.do(ctx, http.MethodGet, podsPath+"?fieldSelector=metadata.name%3D"+name, nil, &list); err != nil {
			return fmt.Errorf("pod %s does not go away: %w", name, err)
		}
		if len(list.Items) == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}
