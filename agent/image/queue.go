package image

import (
	"sync"

	"nodelet/agent/image/imageplan"
	"nodelet/internal/model"
)

// request is a Request with what the pod can log in with.
type request struct {
	Request
	access imageplan.Access
}

// container names what a request is for.
func (r request) container() model.ContainerKey {
	return model.ContainerKey{PodUID: model.UID(r.Pod.UID), Name: r.Container}
}

// need is the request as imageplan knows it.
func (r request) need() imageplan.Need {
	return imageplan.Need{
		Image: r.Image, Policy: r.Policy, Credentials: r.access.Key,
		Container: r.container(), Attempt: r.Attempt,
	}
}

// queue holds the requests that no pull has taken up yet, at most one for each
// container of a pod.
type queue struct {
	mu      sync.Mutex
	waiting map[key]map[model.ContainerKey]request
}

func (q *queue) add(k key, r request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == nil {
		q.waiting = map[key]map[model.ContainerKey]request{}
	}
	if q.waiting[k] == nil {
		q.waiting[k] = map[model.ContainerKey]request{}
	}
	q.waiting[k][r.container()] = r
}

// take gives the requests of a key and forgets them.
func (q *queue) take(k key) []request {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []request
	for _, r := range q.waiting[k] {
		out = append(out, r)
	}
	delete(q.waiting, k)
	return out
}
