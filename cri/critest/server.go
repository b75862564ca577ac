package critest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
)

// DefaultFaultRate is the share of calls that go wrong unless the Config says otherwise.
const DefaultFaultRate = 0.1

// Config says what kind of runtime it is. The zero value works and has faults on.
type Config struct {
	// Seed decides which calls go wrong, and how.
	Seed uint64
	// FaultRate is the share of calls that go wrong; 0 means DefaultFaultRate, below 0 none.
	FaultRate float64
	// MaxDelay bounds the delays of random faults; 0 means 20 ms.
	MaxDelay time.Duration
	// Latency is how long calls take by name; see the reference figures of containerd for sizes.
	Latency map[string]time.Duration
	// Program says what a container does once started; nil: it runs until it is stopped.
	Program func(*runtimev1.ContainerConfig) Program
	// Exec answers ExecSync; nil: everything succeeds at once and prints nothing.
	Exec func(ctx context.Context, container string, cmd []string) (stdout string, exitCode int32, err error)
	// Images are present from the start. Others must be pulled.
	Images []string
	// Pull decides on a pull; nil: every image exists in some registry.
	Pull func(image string) error
	// Unimplemented names calls this runtime does not know, as an old one: GetContainerEvents,
	// RuntimeConfig.
	Unimplemented []string
	// SystemdCgroups: the runtime says that it makes cgroups through systemd.
	SystemdCgroups bool
	// ExitLag is how long after its end a container is still said to run: containerd cleans up first.
	// Server.Exits tells of the end at once.
	ExitLag time.Duration
	// PodCIDR is where sandboxes get their addresses from; zero: 10.88.0.0/16.
	PodCIDR netip.Prefix
	// OnCall is told of every call before it is worked on, outside of all locks: a place to crash
	// the caller.
	OnCall func(Call)
}

// Program is what a container does.
type Program struct {
	RunFor     time.Duration // exits by itself after this; 0: never
	ExitCode   int32         // when it exits by itself
	StopAfter  time.Duration // from SIGTERM to its exit
	IgnoreTerm bool          // only SIGKILL ends it
	StartError string        // the container cannot be started: the OCI runtime's words
}

// Call is one call as the server saw it.
type Call struct {
	Op  string // "CreateContainer"
	Key string // "namespace/pod" or "namespace/pod/container" or the image; empty for lists
	Err error  // what was answered; nil in OnCall
}

// Server is the runtime. Its methods may be called from any goroutine.
type Server struct {
	runtimev1.UnimplementedRuntimeServiceServer
	runtimev1.UnimplementedImageServiceServer

	config Config

	mu         sync.Mutex
	faults     faults
	down       bool
	sandboxes  map[string]*sandbox
	containers map[string]*container
	names      map[string]string // reserved name -> id
	issued     map[string]int    // name -> ids issued for it
	images     map[string]*runtimev1.Image
	events     events
	exits      []*exitStream
	nextIP     netip.Addr
	calls      []Call
	incidents  []string
	timers     map[*time.Timer]struct{}
}

// New makes a runtime without sandboxes.
func New(config Config) *Server {
	if config.FaultRate == 0 {
		config.FaultRate = DefaultFaultRate
	}
	if config.MaxDelay == 0 {
		config.MaxDelay = 20 * time.Millisecond
	}
	if !config.PodCIDR.IsValid() {
		config.PodCIDR = netip.MustParsePrefix("10.88.0.0/16")
	}
	if config.Program == nil {
		config.Program = func(*runtimev1.ContainerConfig) Program { return Program{} }
	}
	s := &Server{
		config:     config,
		faults:     newFaults(config),
		sandboxes:  map[string]*sandbox{},
		containers: map[string]*container{},
		names:      map[string]string{},
		issued:     map[string]int{},
		images:     map[string]*runtimev1.Image{},
		nextIP:     config.PodCIDR.Addr().Next().Next(),
		timers:     map[*time.Timer]struct{}{},
	}
	for _, name := range config.Images {
		s.addImage(name)
	}
	return s
}

// Runtime makes a client that calls the server directly. Several may be used at a time.
func (s *Server) Runtime(deps cri.Deps) *cri.Client {
	return cri.InProcess(cri.Server{Endpoint: "critest", Runtime: s, Image: s}, deps)
}

// Down makes every call fail as on a stopped runtime and cuts the event streams. Containers go on.
func (s *Server) Down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	s.events.cut()
}

// Up ends Down.
func (s *Server) Up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = false
}

// Close stops everything that would still happen: running programs, lingering work, streams.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.timers {
		t.Stop()
	}
	clear(s.timers)
	s.down = true
	s.events.cut()
}

// step is one call: what it does at once, and what it does after the delays that are due.
type step struct {
	op, key string
	// begin reserves what the work needs; abort gives it back. Both, and work, run under the lock.
	begin func() error
	work  func() error
	abort func()
}

// run takes a call through the faults that are due for it.
func (s *Server) run(ctx context.Context, st step) (err error) {
	if s.config.OnCall != nil {
		s.config.OnCall(Call{Op: st.op, Key: st.key})
	}
	fault, err := s.admit(st)
	defer func() { s.record(Call{Op: st.op, Key: st.key, Err: err}) }()
	if err != nil {
		return err
	}
	delay := s.config.Latency[st.op] + fault.Delay
	switch fault.Kind {
	case Hang:
		s.locked(st.abort)
		<-ctx.Done()
		return ctx.Err()
	case Linger:
		s.after(delay, func() { _ = st.work() }) // nobody waits for the result
		return lateError(st)
	case Slow, Refuse, Lose:
	}
	if err := sleep(ctx, delay); err != nil {
		s.locked(st.abort)
		return err
	}
	s.mu.Lock()
	err = st.work()
	s.mu.Unlock()
	if err == nil && fault.Kind == Lose {
		return lateError(st)
	}
	return err
}

// admit decides on the call's fault and reserves what it needs.
func (s *Server) admit(st step) (Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.config.Unimplemented {
		if op == st.op {
			return Fault{}, status.Errorf(codes.Unimplemented, "method %s not implemented", op)
		}
	}
	if s.down {
		return Fault{}, status.Error(codes.Unavailable, "the runtime is down")
	}
	fault := s.faults.next(st.op, st.key)
	if fault.Kind == Refuse {
		return fault, fault.Err
	}
	if st.begin != nil {
		if err := st.begin(); err != nil {
			return fault, err
		}
	}
	return fault, nil
}

func lateError(st step) error {
	return status.Errorf(codes.DeadlineExceeded, "context deadline exceeded (injected into %s %s)", st.op, st.key)
}

func (s *Server) locked(f func()) {
	if f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *Server) record(c Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, c)
}

// after runs f under the lock in d, unless the server is closed before. The caller holds no lock.
func (s *Server) after(d time.Duration, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.afterLocked(d, f)
}

func (s *Server) afterLocked(d time.Duration, f func()) *time.Timer {
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, live := s.timers[t]; live {
			delete(s.timers, t)
			f()
		}
	})
	s.timers[t] = struct{}{}
	return t
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notFound is what containerd answers for an unknown id.
func notFound(what, id string) error {
	return status.Errorf(codes.NotFound, "an error occurred when try to find %s %q: not found", what, id)
}

func unknown(format string, args ...any) error {
	return status.Error(codes.Unknown, fmt.Sprintf(format, args...))
}
