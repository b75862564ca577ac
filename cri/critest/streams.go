package critest

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ExecSync runs a command as Config.Exec says, for at most the request's time-out.
func (s *Server) ExecSync(ctx context.Context, r *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error) {
	key := s.containerKey(r.GetContainerId())
	err := s.run(ctx, step{op: "ExecSync", key: key, work: func() error { return s.mustRun(r.GetContainerId()) }})
	if err != nil || s.config.Exec == nil {
		return &runtimev1.ExecSyncResponse{}, err
	}
	if r.GetTimeout() > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.GetTimeout())*time.Second)
		defer cancel()
	}
	stdout, code, err := s.config.Exec(ctx, key, r.GetCmd())
	if ctx.Err() != nil {
		return nil, status.Errorf(codes.DeadlineExceeded, "failed to exec in container: timeout %ds exceeded: context deadline exceeded", r.GetTimeout())
	}
	if err != nil {
		return nil, unknown("failed to exec in container: %v", err)
	}
	return &runtimev1.ExecSyncResponse{Stdout: []byte(stdout), ExitCode: code}, nil
}

// The streaming calls answer with an address where nobody listens: streaming is the real runtime's.
const streamURL = "http://127.0.0.1:1/"

// Exec answers with an address.
func (s *Server) Exec(ctx context.Context, r *runtimev1.ExecRequest) (*runtimev1.ExecResponse, error) {
	err := s.stream(ctx, "Exec", r.GetContainerId())
	return &runtimev1.ExecResponse{Url: streamURL + "exec/" + r.GetContainerId()}, err
}

// Attach answers with an address.
func (s *Server) Attach(ctx context.Context, r *runtimev1.AttachRequest) (*runtimev1.AttachResponse, error) {
	err := s.stream(ctx, "Attach", r.GetContainerId())
	return &runtimev1.AttachResponse{Url: streamURL + "attach/" + r.GetContainerId()}, err
}

func (s *Server) stream(ctx context.Context, op, id string) error {
	return s.run(ctx, step{op: op, key: s.containerKey(id), work: func() error { return s.mustRun(id) }})
}

// PortForward answers with an address.
func (s *Server) PortForward(ctx context.Context, r *runtimev1.PortForwardRequest) (*runtimev1.PortForwardResponse, error) {
	id := r.GetPodSandboxId()
	err := s.run(ctx, step{op: "PortForward", key: s.sandboxKey(id), work: func() error {
		if sb := s.findSandbox(id); sb == nil || sb.state != ready {
			return notFound("sandbox", id)
		}
		return nil
	}})
	return &runtimev1.PortForwardResponse{Url: streamURL + "portforward/" + id}, err
}

// events hands what happens to the streams that are open.
type events struct {
	streams []*eventStream
	held    []*runtimev1.ContainerEventResponse // while nobody listens
}

type eventStream struct {
	queue chan *runtimev1.ContainerEventResponse
	end   chan struct{}
}

// eventLimit bounds what is kept for a stream, and while there is none; what is beyond is lost.
const eventLimit = 1024

// emit queues an event for every stream. One in ten, by default, is lost.
func (s *Server) emit(id string, sb *sandbox, kind runtimev1.ContainerEventType) {
	event := &runtimev1.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: time.Now().UnixNano()}
	if sb != nil {
		event.PodSandboxStatus = sb.status()
		for _, c := range s.containersOf(sb.id) {
			event.ContainersStatuses = append(event.ContainersStatuses, c.status())
		}
	}
	if s.faults.next(eventOp, kind.String()+" "+id).Kind != Slow {
		return
	}
	if len(s.events.streams) == 0 && len(s.events.held) < eventLimit {
		s.events.held = append(s.events.held, event)
	}
	for _, st := range s.events.streams {
		select {
		case st.queue <- event:
		default:
		}
	}
}

// cut ends all streams.
func (e *events) cut() {
	for _, st := range e.streams {
		close(st.end)
	}
	e.streams = nil
}

func (e *events) remove(st *eventStream) {
	for i, other := range e.streams {
		if other == st {
			e.streams = append(e.streams[:i:i], e.streams[i+1:]...)
			return
		}
	}
}

// CutEvents ends the event streams that are open, as a restart of the runtime does.
func (s *Server) CutEvents() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events.cut()
}

// GetContainerEvents streams events until the caller goes or the stream is cut.
func (s *Server) GetContainerEvents(_ *runtimev1.GetEventsRequest, out grpc.ServerStreamingServer[runtimev1.ContainerEventResponse]) error {
	var st *eventStream
	err := s.run(out.Context(), step{op: "GetContainerEvents", work: func() error {
		st = &eventStream{
			queue: make(chan *runtimev1.ContainerEventResponse, 2*eventLimit),
			end:   make(chan struct{}),
		}
		for _, event := range s.events.held {
			st.queue <- event
		}
		s.events.held = nil
		s.events.streams = append(s.events.streams, st)
		return nil
	}})
	if err != nil {
		return err
	}
	defer s.locked(func() { s.events.remove(st) })
	for {
		select {
		case <-out.Context().Done():
			return out.Context().Err()
		case <-st.end:
			return status.Error(codes.Unavailable, "error reading from server: EOF")
		case event := <-st.queue:
			if err := out.Send(event); err != nil {
				return err
			}
		}
	}
}
