package kube

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
)

// Events writes Event objects about pods and nodes. Equal events are counted
// together and floods are cut, per object, as client-go does it, and then all together by a rate; Event never
// blocks and drops when its queue of 1000 is full.
type Events struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

// Rate bounds requests: so many a second, and a burst of them at once. The zero value is no bound.
type Rate struct{ PerSecond, Burst int }

func (r Rate) limiter() flowcontrol.RateLimiter {
	if r.PerSecond <= 0 {
		return unthrottled()
	}
	return flowcontrol.NewTokenBucketRateLimiter(float32(r.PerSecond), max(r.Burst, 1))
}

// unthrottled is for what must not wait behind other requests, or has a rate of its own.
func unthrottled() flowcontrol.RateLimiter { return flowcontrol.NewFakeAlwaysRateLimiter() }

// NewEvents starts a recorder that writes as component of the node until ctx ends.
func (c *Client) NewEvents(ctx context.Context, component, node string, rate Rate) *Events {
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(eventSink{ctx, c, rate.limiter()})
	return &Events{b, b.NewRecorder(c.scheme, corev1.EventSource{Component: component, Host: node})}
}

// Event notes one event about ref; eventType is Normal or Warning.
func (e *Events) Event(ref corev1.ObjectReference, eventType, reason, message string) {
	e.recorder.Event(&ref, eventType, reason, message)
}

// Close stops the recorder; what is still queued is lost.
func (e *Events) Close() { e.broadcaster.Shutdown() }

type eventSink struct {
	ctx    context.Context
	client *Client
	rate   flowcontrol.RateLimiter
}

// eventCalm is how long an event waits before it is written: what it tells of
// mostly goes on, and the API server and its disk first serve that.
const eventCalm = 250 * time.Millisecond

func (s eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	select {
	case <-time.After(time.Until(e.FirstTimestamp.Add(eventCalm))):
	case <-s.ctx.Done():
	}
	if err := s.rate.Wait(s.ctx); err != nil {
		return nil, err
	}
	return into[corev1.Event](s.ctx, s.client.core().Post().Throttle(unthrottled()).Namespace(namespaceOf(e)).Resource("events").Body(e))
}

func (s eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	if err := s.rate.Wait(s.ctx); err != nil {
		return nil, err
	}
	return into[corev1.Event](s.ctx, s.client.core().Put().Throttle(unthrottled()).Namespace(namespaceOf(e)).Resource("events").Name(e.Name).Body(e))
}

func (s eventSink) Patch(e *corev1.Event, data []byte) (*corev1.Event, error) {
	if err := s.rate.Wait(s.ctx); err != nil {
		return nil, err
	}
	return into[corev1.Event](s.ctx, s.client.core().Patch(types.StrategicMergePatchType).Throttle(unthrottled()).Namespace(namespaceOf(e)).Resource("events").Name(e.Name).Body(data))
}

// namespaceOf puts events of cluster-scoped objects into namespace default, as upstream does.
func namespaceOf(e *corev1.Event) string {
	if e.Namespace == "" {
		return corev1.NamespaceDefault
	}
	return e.Namespace
}
