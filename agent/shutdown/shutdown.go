package shutdown

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/shutdown/shutdownplan"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// Upstream's words; programs match on them.
const (
	reason  = "Terminated"
	message = "Pod was terminated in response to imminent node shutdown."
)

// Config is for which pods the machine waits, and how long.
type Config struct {
	NodeName string
	Periods  []shutdownplan.Period
}

// Session is a connection to who shuts the machine down; *logind.Session is one.
type Session interface {
	// Events tells of shutdowns that begin or are called off; closed when the connection is lost.
	Events() <-chan bool
	ShuttingDown() (bool, error)
	Delay() (time.Duration, error)
	Extend(ctx context.Context, d time.Duration) error
	Lock(why string) (io.Closer, error)
	Close() error
}

// Events takes what users should see; it never blocks.
type Events interface {
	Event(ref corev1.ObjectReference, eventType, reason, message string)
}

// Deps are the seams of a Shutdown.
type Deps struct {
	Store   *store.Store
	Connect func(context.Context) (Session, error)
	// End puts a row into table Evictions, unless the pod goes already.
	End    func(*model.Eviction)
	Events Events
	// Changed is told that Begun has news.
	Changed func()
	// Times is told when a shutdown has begun, and when its last pod had ended (zero: not yet).
	Times  func(start, end time.Time)
	Log    *slog.Logger
	Health *reconcile.Health
}

// Shutdown waits for the machine to go down.
type Shutdown struct {
	cfg  Config
	deps Deps
	wake chan struct{}

	mu    sync.Mutex
	lock  io.Closer
	began time.Time // zero: the machine is to run on
	over  bool
	state shutdownplan.State
	timer *time.Timer
}

// New touches nothing.
func New(cfg Config, deps Deps) *Shutdown {
	if deps.Changed == nil {
		deps.Changed = func() {}
	}
	if deps.Times == nil {
		deps.Times = func(time.Time, time.Time) {}
	}
	return &Shutdown{cfg: cfg, deps: deps, wake: make(chan struct{}, 1)}
}

// Begun tells whether the machine is about to go down.
func (s *Shutdown) Begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.began.IsZero()
}

// Run blocks until ctx ends. Without periods it has nothing to do.
func (s *Shutdown) Run(ctx context.Context) error {
	if len(s.cfg.Periods) == 0 {
		<-ctx.Done()
		return nil
	}
	loop := reconcile.Loop{
		Name: "shutdown", Store: s.deps.Store, Log: s.deps.Log, Health: s.deps.Health,
		Ready: func(snap *store.Snapshot) bool { return snap.Pods.Synced() && snap.Runtime.Synced() },
		Relevant: func(prev, next *store.Snapshot) bool {
			return s.Begun() && (next.Pods.Last() != prev.Pods.Last() || next.Runtime.Last() != prev.Runtime.Last() || next.Volumes.Last() != prev.Volumes.Last())
		},
		Sync: func(_ context.Context, _, snap *store.Snapshot) error { s.sync(snap, time.Now()); return nil },
		Wake: s.wake,
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return loop.Run(ctx) })
	g.Go(func() error { s.listen(ctx); return nil })
	err := g.Wait()
	s.release()
	return err
}

// listen keeps a session, as long as there is somebody to have one with.
func (s *Shutdown) listen(ctx context.Context) {
	for n := 1; ; n++ {
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if n == 1 {
			s.deps.Log.Warn("watch for the machine's shutdown, pods do not end in order until that works", "err", err)
		}
		wait := time.NewTimer(reconcile.Backoff{Min: time.Second, Max: time.Minute}.After(n))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// follow takes the lock and waits for shutdowns until the connection is lost.
func (s *Shutdown) follow(ctx context.Context) error {
	session, err := s.deps.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }() // whatever it says, another one is opened
	delay, err := session.Delay()
	if err != nil {
		return err
	}
	if whole := shutdownplan.Whole(s.cfg.Periods); delay < whole {
		if err := session.Extend(ctx, whole); err != nil {
			return fmt.Errorf("make logind wait for %s: %w", whole, err)
		}
	}
	if err := s.take(session); err != nil {
		return err
	}
	// Events are listened to already: one that comes now only says the same again.
	begun, err := session.ShuttingDown()
	switch {
	case err != nil:
		return err
	case begun:
		s.begin()
	case s.Begun(): // called off while nobody listened
		if err := s.callOff(session); err != nil {
			return err
		}
	}
	s.deps.Log.Info("the machine's shutdown waits for pods", "periods", s.cfg.Periods)
	for {
		select {
		case begins, ok := <-session.Events():
			switch {
			case !ok:
				return errors.New("the connection to logind is lost")
			case begins:
				s.begin()
			default:
				if err := s.callOff(session); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// take takes the lock, unless it is held already or has done its work.
func (s *Shutdown) take(session Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil || s.over {
		return nil
	}
	lock, err := session.Lock("pods have time to end")
	s.lock = lock
	return err
}

// begin is told that the machine is about to go down.
func (s *Shutdown) begin() {
	s.mu.Lock()
	first := s.began.IsZero()
	if first {
		s.began, s.over, s.state = time.Now(), false, shutdownplan.State{}
		s.deps.Times(s.began, time.Time{})
	}
	s.mu.Unlock()
	if first {
		s.deps.Log.Warn("the machine is about to go down: ending pods", "within", shutdownplan.Whole(s.cfg.Periods))
		s.tell("Shutdown manager detected shutdown event")
	}
}

// callOff is told that the machine runs on. Pods that were ended stay so.
func (s *Shutdown) callOff(session Session) error {
	s.mu.Lock()
	was := !s.began.IsZero()
	s.began, s.over, s.state = time.Time{}, false, shutdownplan.State{}
	s.mu.Unlock()
	if was {
		s.deps.Log.Warn("the machine's shutdown was called off")
		s.tell("Shutdown manager detected shutdown cancellation")
	}
	return s.take(session)
}

// tell lets users and other parts know. Upstream puts the node's name into the UID of its events.
func (s *Shutdown) tell(what string) {
	name := s.cfg.NodeName
	s.deps.Events.Event(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name, UID: types.UID(name)}, corev1.EventTypeNormal, "Shutdown", what)
	s.deps.Changed()
	s.poke()
}

func (s *Shutdown) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // one is waiting already
	}
}

// sync does what is to be done now of a shutdown that has begun.
func (s *Shutdown) sync(snap *store.Snapshot, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() || s.over {
		return
	}
	plan := shutdownplan.Make(shutdownplan.Facts{Now: now, Periods: s.cfg.Periods, Pods: pods(snap), State: s.state})
	s.state = plan.State
	for _, e := range plan.End {
		if _, going := snap.Evictions.Get(model.UID(e.Pod.UID)); !going {
			s.deps.Log.Info("end pod before the machine goes down", "pod", e.Pod.Namespace+"/"+e.Pod.Name, "grace", e.Grace)
			s.deps.End(&model.Eviction{UID: model.UID(e.Pod.UID), At: now, Reason: reason, Message: message, Grace: e.Grace, Pressure: true})
		}
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	if !plan.Over {
		s.timer = time.AfterFunc(plan.Wake.Sub(now), s.poke)
		return
	}
	s.over = true
	s.deps.Times(s.began, now)
	s.deps.Log.Info("pods have ended, the machine may go down", "took", now.Sub(s.began))
	s.free()
}

// pods are those of the node, and whether they have ended: to the last volume, and as far as the API.
func pods(snap *store.Snapshot) (all []shutdownplan.Pod) {
	for uid, pod := range snap.Pods.All() {
		rt, _ := snap.Runtime.Get(uid)
		_, mounted := snap.Volumes.Get(uid)
		told := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
		all = append(all, shutdownplan.Pod{Pod: pod, Ended: told && !mounted && !running(rt)})
	}
	return all
}

func running(rt *model.PodRuntime) bool {
	return rt != nil && slices.ContainsFunc(rt.Containers, func(c model.Container) bool {
		return c.State == model.ContainerRunning || c.State == model.ContainerUnknown
	})
}

// release lets go of everything at the daemon's end.
func (s *Shutdown) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.free()
}

// free lets the machine go on; mu is held.
func (s *Shutdown) free() {
	if s.lock == nil {
		return
	}
	if err := s.lock.Close(); err != nil {
		s.deps.Log.Warn("release logind's inhibitor lock", "err", err)
	}
	s.lock = nil
}
