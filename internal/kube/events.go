package kube

import (
	"context"
	"sync/atomic"
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
	newest      *atomic.Pointer[time.Time]
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
	e := &Events{b, b.NewRecorder(c.scheme, corev1.EventSource{Component: component, Host: node}), &atomic.Pointer[time.Time]{}}
	b.StartRecordingToSink(eventSink{ctx, c, rate.limiter(), e.newest})
	return e
}

// Event notes one event about ref; eventType is Normal or Warning.
func (e *Events) Event(ref corev1.ObjectReference, eventType, reason, message string) {
	now := time.Now()
	e.newest.Store(&now)
	e.recorder.Event(&ref, eventType, reason, message)
}

// Close stops the recorder; what is still queued is lost.
func (e *Events) Close() { e.broadcaster.Shutdown() }

type eventSink struct {
	ctx    context.Context
	client *Client
	rate   flowcontrol.RateLimiter
	newest *atomic.Pointer[time.Time]
}

// Events wait before they are written until there has been no other for eventCalm: what they tell of mostly
// goes on, and the API server and its disk first serve that. None waits longer than eventLimit.
const (
	eventCalm  = 250 * time.Millisecond
	eventLimit = 5 * time.Second
)

// eventDue is when an event of that time may be written, by what is known of the newest one.
func eventDue(at, newest time.Time) time.Time {
	calm, limit := newest.Add(eventCalm), at.Add(eventLimit)
	if calm.Before(limit) {
		return calm
	}
	return limit
}

// await waits until an event of that time may be written.
func (s eventSink) await(at time.Time) {
	for {
		newest := at
		if known := s.newest.Load(); known != nil && known.After(at) {
			newest = *known
		}
		wait := time.Until(eventDue(at, newest))
		if wait <= 0 {
			return
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
	}
}

func (s eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	s.await(e.FirstTimestamp.Time)
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
