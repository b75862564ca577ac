package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
	"nodelet/cri"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

const (
	// hintLimit bounds the events that wait to be looked into; beyond, everything is looked at.
	hintLimit = 1024
	// parallelLooks bounds the pods observed side by side in a relist. One that hangs takes one place.
	parallelLooks = 32
	// lookLimit bounds the look at one pod in a relist; it is tried again apart from it.
	lookLimit = 10 * time.Second
	// firstLook is how long the first relist may hold up the daemon's start for pods that hang.
	firstLook = time.Second
	// settle is how long after subscribing to events all is looked at again: what
	// happened between the last look and the subscription was told to nobody.
	settle = 200 * time.Millisecond
)

// observer reads the runtime into the Runtime table. It is the table's only writer.
type observer struct {
	cfg     Config
	deps    Deps
	runtime Runtime
	log     *slog.Logger
	files   termination
	hints   chan model.UID
	all     chan struct{} // asks for a relist

	mu sync.Mutex
	// clock numbers observations by their beginning; seen is the newest that was committed, by pod:
	// a slow answer must not overwrite a newer one.
	clock uint64
	seen  map[model.UID]uint64
	// doubts are pods whose row in the table may not be decided upon.
	doubts map[model.UID]bool
	// exits are the ends of containers, by id, that the runtime still says run.
	exits map[string]earlyExit
	// endings are the ends, by id of a container or sandbox, that the runtime has yet to tell.
	endings map[string]ending
	// noEvents: the runtime tells of none.
	noEvents bool
	// asked are the containers, by id, that the agent itself is stopping, with their pods.
	asked map[string]model.UID
	// altered are containers, by id, that were changed in their state: what is known of them is out of date.
	altered map[string]bool
}

// runtimeFacts is what a runtime says of itself.
type runtimeFacts struct {
	name string
	// handlers by name; "" is the default one.
	handlers map[string]podplan.Handler
}

func newObserver(cfg Config, deps Deps) *observer {
	return &observer{
		cfg: cfg, deps: deps, runtime: deps.Runtime, log: deps.Log,
		files: termination{podLogs: cfg.Settings.PodLogDir},
		hints: make(chan model.UID, hintLimit), all: make(chan struct{}, 1),
		seen: map[model.UID]uint64{}, doubts: map[model.UID]bool{}, altered: map[string]bool{}, exits: map[string]earlyExit{}, asked: map[string]model.UID{},
		endings: map[string]ending{},
	}
}

// meet asks the runtime for its name until it answers; nil when ctx ended first.
func (o *observer) meet(ctx context.Context) *runtimeFacts {
	for n := 1; ; n++ {
		version, err := o.runtime.Version(ctx, &runtimev1.VersionRequest{})
		if err == nil {
			facts := &runtimeFacts{name: version.GetRuntimeName(), handlers: map[string]podplan.Handler{}}
			if status, err := o.runtime.Status(ctx, &runtimev1.StatusRequest{}); err == nil {
				for _, h := range status.GetRuntimeHandlers() {
					facts.handlers[h.GetName()] = podplan.Handler{
						RecursiveReadOnly: h.GetFeatures().GetRecursiveReadOnlyMounts(), UserNamespaces: h.GetFeatures().GetUserNamespaces(),
					}
				}
			}
			return facts
		}
		if n == 1 && ctx.Err() == nil {
			o.log.Warn("ask the container runtime for its version, going on until it answers", "err", err)
		}
		if !pause(ctx, reconcile.Backoff{Max: 5 * time.Second}.After(n)) {
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// run blocks until ctx ends.
func (o *observer) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	targeted := &reconcile.Keyed[model.UID]{
		Name: "observe", Store: o.deps.Store, Log: o.log, Health: o.deps.ObserveHealth,
		Keys: func(_, _ *store.Snapshot) iter.Seq[model.UID] { return func(func(model.UID) bool) {} },
		Sync: func(ctx context.Context, uid model.UID, _ *store.Snapshot) (time.Duration, error) {
			if err := o.pod(ctx, uid); err != nil {
				return 0, err
			}
			return o.lookAgain(uid), nil
		},
		Hints: o.hints,
	}
	interval := make(chan time.Duration, 1)
	group.Go(func() error { return targeted.Run(ctx) })
	group.Go(func() error { o.relists(ctx, interval); return nil })
	group.Go(func() error { o.listen(ctx, interval); return nil })
	if o.deps.Exits != nil {
		group.Go(func() error { o.listenExits(ctx); return nil })
	}
	return group.Wait()
}

// listen turns the runtime's events into hints, as long as it has any.
func (o *observer) listen(ctx context.Context, interval chan<- time.Duration) {
	for n := 1; ; n++ {
		late := time.AfterFunc(settle, o.relistSoon)
		began := time.Now()
		err := o.runtime.Events(ctx, o.hint)
		late.Stop()
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, cri.ErrUnimplemented) {
			o.log.Info("the runtime tells of no events: looking at all of it regularly", "interval", o.cfg.RelistWithoutEvents)
			o.mu.Lock()
			o.noEvents = true
			o.mu.Unlock()
			interval <- o.cfg.RelistWithoutEvents
			return
		}
		if time.Since(began) > time.Minute {
			n = 1
		}
		o.log.Warn("listen to the runtime's events, going on by relisting until it works again", "err", err)
		o.relistSoon()
		if !pause(ctx, reconcile.Backoff{Max: 5 * time.Second}.After(n)) {
			return
		}
	}
}

// hint runs on the runtime's publishing path: it only notes whom to look at.
func (o *observer) hint(e *runtimev1.ContainerEventResponse) {
	uid := model.UID(e.GetPodSandboxStatus().GetMetadata().GetUid())
	if uid == "" {
		o.relistSoon()
		return
	}
	select {
	case o.hints <- uid:
	default:
		o.relistSoon()
	}
}

func (o *observer) relistSoon() {
	select {
	case o.all <- struct{}{}:
	default:
	}
}

// relists looks at the whole runtime at start, regularly, and when asked to.
func (o *observer) relists(ctx context.Context, interval <-chan time.Duration) {
	every := o.cfg.Relist
	lull := newLull(o)
	for n := 0; ; {
		began := time.Now()
		var err error
		if !lull.lasts(ctx, every) {
			err = o.relist(ctx, &lull)
		}
		wait := every
		if err == nil {
			n = 0
			o.deps.Relisted(time.Now(), time.Since(began))
		} else {
			n++
			wait = min(every, reconcile.Backoff{Max: 5 * time.Second}.After(n))
		}
		if ctx.Err() != nil {
			return
		}
		if n == 1 {
			o.log.Warn("list the runtime's pods, going on until it answers", "err", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-o.all:
		case every = <-interval:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// relist lists all there is and looks into the pods that differ from the
// table. The first time that this works, the table is synced.
func (o *observer) relist(ctx context.Context, lull *lull) error {
	began := o.begin()
	listed, err := o.list(ctx, nil)
	if err != nil {
		return err
	}
	table := o.deps.Store.Snapshot().Runtime
	differ := map[model.UID]bool{}
	for uid, pod := range listed {
		if old, ok := table.Get(uid); !ok || !alike(old, pod) {
			differ[uid] = true
		}
	}
	for uid := range table.All() {
		if listed[uid] == nil {
			differ[uid] = true
		}
	}
	lull.found(table, len(differ) == 0)
	if !table.Synced() {
		// None of them may be decided about before it was looked at.
		for uid := range differ {
			o.doubt(uid)
		}
	}
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		o.lookAt(ctx, differ, began)
	}()
	if !table.Synced() {
		patience := time.NewTimer(firstLook)
		defer patience.Stop()
		select {
		case <-looked:
		case <-patience.C: // the rest stays in doubt, and holds up nobody else
		case <-ctx.Done():
		}
		if ctx.Err() == nil {
			o.deps.Writer.Commit(func(tx *store.Tx[model.UID, *model.PodRuntime]) { tx.Synced() })
		}
	}
	<-looked
	return ctx.Err()
}

// lookAt observes many pods. One that cannot be observed now is left to the
// loop for single pods, which tries again; nothing is decided about it meanwhile.
func (o *observer) lookAt(ctx context.Context, pods map[model.UID]bool, began uint64) {
	var looks errgroup.Group
	looks.SetLimit(parallelLooks)
	for uid := range pods {
		if o.committedSince(uid, began) {
			continue
		}
		looks.Go(func() error {
			limited, cancel := context.WithTimeout(ctx, lookLimit)
			defer cancel()
			if err := o.pod(limited, uid); err != nil && ctx.Err() == nil {
				o.doubt(uid)
				o.log.Warn("observe pod, going on with the others", "pod", uid, "err", err)
				o.retry(uid)
			}
			return nil
		})
	}
	_ = looks.Wait() // its functions give no errors
}

func (o *observer) retry(uid model.UID) {
	select {
	case o.hints <- uid:
	default: // the next relist finds it
	}
}

// alike: the list says nothing that the table does not know.
func alike(old, listed *model.PodRuntime) bool {
	if len(old.Sandboxes) != len(listed.Sandboxes) || len(old.Containers) != len(listed.Containers) {
		return false
	}
	for i := range listed.Sandboxes {
		if old.Sandboxes[i].ID != listed.Sandboxes[i].ID || old.Sandboxes[i].Ready != listed.Sandboxes[i].Ready {
			return false
		}
	}
	for i := range listed.Containers {
		if old.Containers[i].ID != listed.Containers[i].ID || old.Containers[i].State != listed.Containers[i].State {
			return false
		}
	}
	return true
}

// pod looks at one pod and commits what is true of it.
func (o *observer) pod(ctx context.Context, uid model.UID) error {
	began := o.begin()
	listed, err := o.list(ctx, map[string]string{podplan.LabelPodUID: uid.String()})
	if err != nil {
		return err
	}
	pod := listed[uid]
	o.settleExits(uid, pod)
	if pod != nil {
		old, _ := o.deps.Store.Snapshot().Runtime.Get(uid)
		if err := o.complete(ctx, pod, old); err != nil {
			return err
		}
	}
	o.commit(uid, pod, began)
	return nil
}

// complete asks for what lists do not tell, where it is not known from before.
func (o *observer) complete(ctx context.Context, pod, old *model.PodRuntime) error {
	sandboxes := pod.Sandboxes[:0]
	for _, s := range pod.Sandboxes {
		if known := knownSandbox(old, &s); known != nil {
			sandboxes = append(sandboxes, *known)
			continue
		}
		resp, err := o.runtime.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: s.ID})
		if errors.Is(err, cri.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("get status of sandbox %.12s: %w", s.ID, err)
		}
		sandboxes = append(sandboxes, sandboxOf(resp.GetStatus()))
	}
	pod.Sandboxes = sandboxes
	containers := pod.Containers[:0]
	for _, c := range pod.Containers {
		early, ended := o.exited(c.ID)
		if known := knownContainer(old, &c); known != nil && !o.isAltered(c.ID) && !ended {
			containers = append(containers, *known)
			continue
		}
		resp, err := o.runtime.ContainerStatus(ctx, &runtimev1.ContainerStatusRequest{ContainerId: c.ID})
		if errors.Is(err, cri.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("get status of container %s %.12s: %w", c.Name, c.ID, err)
		}
		o.alter(c.ID, false)
		full := containerOf(resp.GetStatus(), c.SandboxID)
		if ended {
			early.apply(&full)
		}
		o.files.addMessage(&full, resp.GetStatus(), pod)
		containers = append(containers, full)
	}
	pod.Containers = containers
	return nil
}

// knownSandbox is what was learnt of a sandbox before, if that still holds.
func knownSandbox(old *model.PodRuntime, s *model.Sandbox) *model.Sandbox {
	if old == nil {
		return nil
	}
	for i := range old.Sandboxes {
		if k := &old.Sandboxes[i]; k.ID == s.ID && k.Ready == s.Ready && (len(k.IPs) > 0 || k.HostNetwork || !k.Ready) {
			return k
		}
	}
	return nil
}

func knownContainer(old *model.PodRuntime, c *model.Container) *model.Container {
	if old == nil || c.State == model.ContainerUnknown {
		return nil
	}
	if k := old.ByID(c.ID); k != nil && k.State == c.State {
		return k
	}
	return nil
}

// alter notes that a container was changed, or that it was looked at anew since.
func (o *observer) alter(id string, changed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if changed {
		o.altered[id] = true
	} else {
		delete(o.altered, id)
	}
}

func (o *observer) isAltered(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.altered[id]
}

func (o *observer) begin() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clock++
	return o.clock
}

func (o *observer) committedSince(uid model.UID, began uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[uid] > began
}

// commit publishes an observation, unless a newer one was published meanwhile. nil: the pod is gone.
func (o *observer) commit(uid model.UID, pod *model.PodRuntime, began uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[uid] > began {
		return
	}
	o.seen[uid] = began
	delete(o.doubts, uid)
	old, ok := o.deps.Store.Snapshot().Runtime.Get(uid)
	switch {
	case pod == nil:
		o.forgetOld()
		if ok {
			o.deps.Writer.Delete(uid)
		}
	case !ok || !same(old, pod):
		pod.Observed = time.Now()
		o.deps.Writer.Set(uid, pod)
	}
}

// seenLimit bounds what is remembered of pods that are gone.
const seenLimit = 4096

// forgetOld drops the oldest observations of pods that are no longer there; mu is held.
func (o *observer) forgetOld() {
	if len(o.seen) < seenLimit {
		return
	}
	table := o.deps.Store.Snapshot().Runtime
	for uid, at := range o.seen {
		if _, ok := table.Get(uid); !ok && at+seenLimit < o.clock {
			delete(o.seen, uid)
		}
	}
}

// doubt says that a pod's row may be out of date: nothing is decided about the
// pod before it was observed again.
func (o *observer) doubt(uid model.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.doubts[uid] = true
}

func (o *observer) doubtful(uid model.UID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.doubts[uid]
}

// unknown: the runtime has something of the pod that this process never saw in
// full. Until then nothing can be said about it.
func (o *observer) unknown(uid model.UID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.doubts[uid] && o.seen[uid] == 0
}
