package dra

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"google.golang.org/grpc"
	resourcev1 "k8s.io/api/resource/v1"
	drav1 "k8s.io/kubelet/pkg/apis/dra/v1"
	"pgregory.net/rapid"

	"nodelet/agent/dra/draplan"
	"nodelet/internal/keep"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

var errKilled = errors.New("killed")

// fuse kills the process at one of its steps, before or after that has taken effect.
type fuse struct {
	left  int // steps to go; < 0: none
	after bool
	burnt bool
}

// step does one thing unless the process is dead.
func (f *fuse) step(do func()) error {
	switch {
	case f.burnt:
		return errKilled
	case f.left == 0:
		f.burnt = true
		if f.after {
			do()
		}
		return errKilled
	}
	f.left--
	do()
	return nil
}

// crashing is a disk, an API and a driver that know when the process is dead.
type crashing struct {
	fuse     *fuse
	api      *fakeAPI
	disk     map[string]draplan.Record
	prepared map[string]map[string]bool // by driver, then by the claim's UID
	failing  string                     // the driver that fails at present
}

func (c *crashing) Put(key string, r draplan.Record) error {
	return c.fuse.step(func() { c.disk[key] = r })
}

func (c *crashing) Delete(key string) error { return c.fuse.step(func() { delete(c.disk, key) }) }

func (c *crashing) GetResourceClaim(ctx context.Context, key model.Key) (*resourcev1.ResourceClaim, error) {
	return c.api.GetResourceClaim(ctx, key)
}

func (c *crashing) DeleteResourceSlices(context.Context, string, string) error { return nil }

// instance is one driver as a client sees it. Each claim is a step of its own: a call may be half done.
type instance struct {
	*crashing
	driver string
}

func (d instance) NodePrepareResources(_ context.Context, q *drav1.NodePrepareResourcesRequest, _ ...grpc.CallOption) (*drav1.NodePrepareResourcesResponse, error) {
	out := &drav1.NodePrepareResourcesResponse{Claims: map[string]*drav1.NodePrepareResourceResponse{}}
	if d.failing == d.driver {
		return nil, errors.New("busy")
	}
	for _, c := range q.GetClaims() {
		if err := d.fuse.step(func() { d.prepared[d.driver][c.GetUid()] = true }); err != nil {
			return nil, err
		}
		out.Claims[c.GetUid()] = &drav1.NodePrepareResourceResponse{Devices: []*drav1.Device{{PoolName: "p", DeviceName: "d"}}}
	}
	return out, nil
}

func (d instance) NodeUnprepareResources(_ context.Context, q *drav1.NodeUnprepareResourcesRequest, _ ...grpc.CallOption) (*drav1.NodeUnprepareResourcesResponse, error) {
	out := &drav1.NodeUnprepareResourcesResponse{Claims: map[string]*drav1.NodeUnprepareResourceResponse{}}
	if d.failing == d.driver {
		return nil, errors.New("busy")
	}
	for _, c := range q.GetClaims() {
		if err := d.fuse.step(func() { delete(d.prepared[d.driver], c.GetUid()) }); err != nil {
			return nil, err
		}
		out.Claims[c.GetUid()] = &drav1.NodeUnprepareResourceResponse{}
	}
	return out, nil
}

// life is a node over many processes.
type life struct {
	crashing
	t       *rapid.T
	store   *store.Store
	writers *store.Writers
	m       *Manager
	serial  int
	alive   map[model.UID][]string // pods of the API, with their claims
}

var drivers = []string{"a.example.com", "b.example.com"}

// process begins a new one with what the last one left.
func (l *life) process() {
	l.fuse = &fuse{left: rapid.IntRange(-1, 12).Draw(l.t, "steps until it is killed"), after: rapid.Bool().Draw(l.t, "after")}
	s, w := store.New()
	before := map[string]draplan.Record{}
	for k, r := range l.disk {
		before[k] = r
	}
	l.store, l.writers = s, w
	l.m = New(Config{NodeName: "n", Boot: "boot"}, Deps{
		Store: s, Prepared: w.Prepared, API: l, Events: &events{}, Records: l, RecordsBefore: before,
		Drivers: keep.None[KeptDriver]{}, Log: slog.New(slog.DiscardHandler),
	})
	for _, d := range drivers {
		l.m.registered[d] = []*plugin{{driver: d, client: instance{&l.crashing, d}, answers: true}}
	}
	l.m.deps.Prepared.Replace(l.m.rows())
	w.Runtime.Replace(nil)
	w.Pods.Replace(nil)
	for uid := range l.alive {
		l.show(uid)
	}
}

// show puts a pod into the tables.
func (l *life) show(uid model.UID) {
	l.writers.Allocations.Set(uid, &model.Allocation{UID: uid})
	l.writers.Pods.Set(uid, podOf(uid.String(), l.alive[uid]...))
}

// arrive: a pod with some claims, which the API has or makes.
func (l *life) arrive() {
	l.serial++
	uid := model.UID(fmt.Sprintf("pod%d", l.serial))
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), 1, 3, rapid.ID).Draw(l.t, "claims")
	l.alive[uid] = names
	for _, name := range names {
		if l.api.claims[model.Key{Namespace: "ns", Name: name}] == nil {
			l.serial++
			of := rapid.SliceOfNDistinct(rapid.SampledFrom(drivers), 1, 2, rapid.ID).Draw(l.t, "drivers")
			l.api.claim(name, fmt.Sprintf("claim%d", l.serial), of)
		}
		l.reserve(name)
	}
	l.show(uid)
}

// reserve has a claim be for exactly the pods that use it, or gone without any.
func (l *life) reserve(name string) {
	c := l.api.claims[model.Key{Namespace: "ns", Name: name}]
	c.Status.ReservedFor = nil
	for uid, names := range l.alive {
		if slices.Contains(names, name) {
			c.Status.ReservedFor = append(c.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{UID: podOf(uid.String()).UID})
		}
	}
}

// leave: a pod goes from the API; a claim that nobody uses may go as well.
func (l *life) leave(uid model.UID) {
	names := l.alive[uid]
	delete(l.alive, uid)
	l.writers.Pods.Delete(uid)
	for _, name := range names {
		l.reserve(name)
		if len(l.api.claims[model.Key{Namespace: "ns", Name: name}].Status.ReservedFor) == 0 && rapid.Bool().Draw(l.t, "claim goes too") {
			l.api.remove(name)
		}
	}
}

// pods are all that a loop would look at, in some order.
func (l *life) pods() []model.UID {
	return slices.Sorted(l.m.keys(nil, l.store.Snapshot()))
}

// check: what others are told is prepared, is.
func (l *life) check() {
	for uid, row := range l.store.Snapshot().Prepared.All() {
		if names, ok := l.alive[uid]; ok && draplan.Ready(podOf(uid.String(), names...), row) {
			l.mustHave(uid, names)
		}
	}
}

func (l *life) mustHave(uid model.UID, names []string) {
	for _, name := range names {
		c := l.api.claims[model.Key{Namespace: "ns", Name: name}]
		for _, result := range c.Status.Allocation.Devices.Results {
			if !l.prepared[result.Driver][string(c.UID)] {
				l.t.Fatalf("pod %s: claim %s (%s) is not prepared by %s", uid, name, c.UID, result.Driver)
			}
		}
	}
}

// TestCrashPoints: whatever moments the daemon is killed at, every claim that a live pod is told to have is
// prepared, and in the end those of live pods are and no others.
func TestCrashPoints(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		l := &life{t: r, alive: map[model.UID][]string{}}
		l.crashing = crashing{api: &fakeAPI{claims: map[model.Key]*resourcev1.ResourceClaim{}}, disk: map[string]draplan.Record{}, prepared: map[string]map[string]bool{}}
		for _, d := range drivers {
			l.prepared[d] = map[string]bool{}
		}
		l.process()
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			pods := l.pods()
			switch what := rapid.IntRange(0, 6).Draw(r, "what"); {
			case what == 0:
				l.arrive()
			case what == 1 && len(l.alive) > 0:
				var uids []model.UID
				for uid := range l.alive {
					uids = append(uids, uid)
				}
				slices.Sort(uids)
				l.leave(rapid.SampledFrom(uids).Draw(r, "leaves"))
			case what == 2:
				l.failing = rapid.SampledFrom([]string{"", drivers[0], drivers[1]}).Draw(r, "failing")
			case len(pods) > 0:
				_, _ = l.m.sync(t.Context(), rapid.SampledFrom(pods).Draw(r, "sync"), l.store.Snapshot())
			}
			if l.fuse.burnt {
				l.process()
			}
			l.check()
		}
		l.process()
		l.fuse.left, l.failing = -1, ""
		var errs []error
		for range 3 { // what waits for another is done by the third time
			errs = nil
			for _, uid := range l.pods() {
				_, err := l.m.sync(t.Context(), uid, l.store.Snapshot())
				errs = append(errs, err)
			}
		}
		if err := errors.Join(errs...); err != nil {
			r.Fatalf("in the end: %v; records %v", err, l.disk)
		}
		used := map[string]bool{}
		for uid, names := range l.alive {
			l.mustHave(uid, names)
			for _, name := range names {
				used[string(l.api.claims[model.Key{Namespace: "ns", Name: name}].UID)] = true
			}
		}
		for d, claims := range l.prepared {
			for uid := range claims {
				if !used[uid] {
					r.Fatalf("%s: claim %s is still prepared, no pod uses it; records %v", d, uid, l.disk)
				}
			}
		}
		for key, rec := range l.disk {
			if !used[rec.UID.String()] {
				r.Fatalf("record left: %s", key)
			}
		}
	})
}
