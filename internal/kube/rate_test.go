package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// waits counts who waits for a rate.
type waits struct {
	flowcontrol.RateLimiter
	n atomic.Int32
}

func (w *waits) Wait(context.Context) error { w.n.Add(1); return nil }

// What keeps the node alive, and events with their own rate, never wait behind other requests.
func TestRateSparesHeartbeats(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess})
	}))
	defer server.Close()
	limiter := &waits{RateLimiter: unthrottled()}
	client, err := New(&rest.Config{Host: server.URL, RateLimiter: limiter})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	sink := eventSink{ctx: ctx, client: client, rate: unthrottled(), newest: &atomic.Pointer[time.Time]{}}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "e"}}
	for name, call := range map[string]struct {
		do   func()
		want int32
	}{
		"get node": {func() { _, _ = client.GetNode(ctx, "n") }, 1},
		"create pod": {func() {
			_, _ = client.CreatePod(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}})
		}, 1},
		"node status": {func() { _, _ = client.PatchNodeStatus(ctx, "n", []byte("{}")) }, 0},
		"lease": {func() {
			_, _ = client.UpdateLease(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "n", Namespace: "x"}})
		}, 0},
		"event":        {func() { _, _ = sink.Create(event) }, 0},
		"event again":  {func() { _, _ = sink.Patch(event, []byte("{}")) }, 0},
		"event update": {func() { _, _ = sink.Update(event) }, 0},
	} {
		before := limiter.n.Load()
		call.do()
		if got := limiter.n.Load() - before; got != call.want {
			t.Errorf("%s waits %d times for the rate, want %d", name, got, call.want)
		}
	}
}
