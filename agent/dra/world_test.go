package dra

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/dra/draplan"
	"nodelet/internal/keep/keeptest"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// fakeAPI has claims, and notes what is removed of ResourceSlices.
type fakeAPI struct {
	mu     sync.Mutex
	claims map[model.Key]*resourcev1.ResourceClaim
	wiped  chan string
	refuse int // so many requests more
}

func (a *fakeAPI) GetResourceClaim(_ context.Context, key model.Key) (*resourcev1.ResourceClaim, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	resource := schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"}
	if a.refuse > 0 {
		a.refuse--
		return nil, apierrors.NewForbidden(resource, key.Name, errors.New("no relationship found"))
	}
	c, ok := a.claims[key]
	if !ok {
		return nil, apierrors.NewNotFound(resource, key.Name)
	}
	return c, nil
}

func (a *fakeAPI) DeleteResourceSlices(_ context.Context, node, driver string) error {
	a.wiped <- node + "/" + driver
	return nil
}

// claim makes one that is allocated from drivers and reserved for pods.
func (a *fakeAPI) claim(name, uid string, drivers []string, pods ...string) *resourcev1.ResourceClaim {
	c := &resourcev1.ResourceClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid)}}
	c.Status.Allocation = &resourcev1.AllocationResult{}
	for _, d := range drivers {
		c.Status.Allocation.Devices.Results = append(c.Status.Allocation.Devices.Results, resourcev1.DeviceRequestAllocationResult{Request: "r", Driver: d, Pool: "pool", Device: "d"})
	}
	for _, p := range pods {
		c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: p, UID: types.UID(p)})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.claims[model.Key{Namespace: "ns", Name: name}] = c
	return c
}

func (a *fakeAPI) remove(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.claims, model.Key{Namespace: "ns", Name: name})
}

type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) Event(ref corev1.ObjectReference, _, reason, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ref.Name+" "+reason+" "+message)
}

func (e *events) has(part string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Contains(strings.Join(e.all, "\n"), part)
}

// world is a node with a Manager that can be started anew.
type world struct {
	t       *testing.T
	dir     string
	api     *fakeAPI
	records keeptest.Memory[draplan.Record]
	drivers keeptest.Memory[KeptDriver]
	events  events
	boot    string
	grace   time.Duration

	store   *store.Store
	writers *store.Writers
	m       *Manager
	stop    func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "dra") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &world{t: t, dir: dir, boot: "boot1", api: &fakeAPI{claims: map[model.Key]*resourcev1.ResourceClaim{}, wiped: make(chan string, 100)}}
}

// start begins a new process; what the last one had in memory is gone.
func (w *world) start() {
	w.t.Helper()
	if w.stop != nil {
		w.stop()
	}
	var pods map[model.UID]*corev1.Pod
	if w.store != nil {
		pods = map[model.UID]*corev1.Pod{}
		for uid, p := range w.store.Snapshot().Pods.All() {
			pods[uid] = p
		}
	}
	w.store, w.writers = store.New()
	w.m = New(Config{NodeName: "n", Boot: w.boot, Grace: w.grace}, Deps{
		Store: w.store, Prepared: w.writers.Prepared, API: w.api, Events: &w.events,
		Records: &w.records, RecordsBefore: w.records.All(), Drivers: &w.drivers, DriversBefore: w.drivers.All(),
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.m.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		w.stop = nil
	}
	w.writers.Runtime.Replace(nil)
	for uid := range pods {
		w.writers.Allocations.Set(uid, &model.Allocation{UID: uid})
	}
	w.writers.Pods.Replace(pods)
	w.writers.Nodes.Set(model.Key{Name: "n"}, &model.Node{Name: "n"})
}

// pod makes one that refers to claims by name, and is taken by the node.
func (w *world) pod(name string, claims ...string) *corev1.Pod {
	p := podOf(name, claims...)
	w.writers.Allocations.Set(model.UID(p.UID), &model.Allocation{UID: model.UID(p.UID)})
	w.writers.Pods.Set(model.UID(p.UID), p)
	return p
}

func podOf(name string, claims ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), ResourceVersion: fmt.Sprint(time.Now().UnixNano())}}
	for _, c := range claims {
		p.Spec.ResourceClaims = append(p.Spec.ResourceClaims, corev1.PodResourceClaim{Name: "ref-" + c, ResourceClaimName: &c})
	}
	return p
}

func (w *world) gone(name string) { w.writers.Pods.Delete(model.UID(name)) }

// await waits until what others see of a pod is as wanted; "" is nothing.
func (w *world) await(name, want string) {
	w.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		snap := w.store.Snapshot()
		got := ""
		if row, ok := snap.Prepared.Get(model.UID(name)); ok {
			got = row.String()
		}
		if got == want || want != "" && strings.HasPrefix(got, want) {
			return
		}
		select {
		case <-snap.Changed():
		case <-limit:
			w.t.Fatalf("pod %s: %q, want %q", name, got, want)
		}
	}
}

// until waits for something that no table tells of.
func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func corev1Claim(name, template string) corev1.PodResourceClaim {
	return corev1.PodResourceClaim{Name: name, ResourceClaimTemplateName: &template}
}

func corev1Status(name, claim string) corev1.PodResourceClaimStatus {
	return corev1.PodResourceClaimStatus{Name: name, ResourceClaimName: &claim}
}
