package critest

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	created = runtimev1.ContainerState_CONTAINER_CREATED
	running = runtimev1.ContainerState_CONTAINER_RUNNING
	exited  = runtimev1.ContainerState_CONTAINER_EXITED

	sigtermed = 143 // 128 + SIGTERM
	sigkilled = 137 // 128 + SIGKILL
	notBegun  = 128 // containerd's exit code of a container that could not be started
)

// container goes created -> running -> exited, or created -> exited when it cannot be started.
type container struct {
	id, sandboxID string
	config        *runtimev1.ContainerConfig
	pod           *runtimev1.PodSandboxMetadata
	imageID       string
	program       Program
	state         runtimev1.ContainerState
	createdAt     time.Time
	startedAt     time.Time
	finishedAt    time.Time
	exitCode      int32
	reason        string
	message       string
	timer         *time.Timer // the program's own end
	ending        *ending     // it has ended, but is still said to run
	gone          chan struct{}
}

// ending is how a container ended that is still said to run.
type ending struct {
	at     time.Time
	code   int32
	reason string
	lag    *time.Timer
}

func (c *container) key() string { return podKey(c.pod) + "/" + c.config.GetMetadata().GetName() }

// CreateContainer makes a container in a ready sandbox from an image that is present.
func (s *Server) CreateContainer(ctx context.Context, r *runtimev1.CreateContainerRequest) (*runtimev1.CreateContainerResponse, error) {
	meta, pod := r.GetConfig().GetMetadata(), r.GetSandboxConfig().GetMetadata()
	if meta == nil {
		return nil, unknown("container config must include metadata")
	}
	if pod == nil {
		return nil, unknown("pod sandbox config must include metadata")
	}
	c := &container{config: r.GetConfig(), pod: pod, state: created, gone: make(chan struct{})}
	err := s.run(ctx, step{
		op: "CreateContainer", key: c.key(),
		begin: func() error { return s.beginContainer(c, r) },
		work:  func() error { return s.addContainer(c) },
		abort: func() { s.release(c.id) },
	})
	if err != nil {
		return nil, err
	}
	return &runtimev1.CreateContainerResponse{ContainerId: c.id}, nil
}

func (s *Server) beginContainer(c *container, r *runtimev1.CreateContainerRequest) error {
	sb := s.findSandbox(r.GetPodSandboxId())
	if sb == nil {
		return notFound("sandbox", r.GetPodSandboxId())
	}
	if sb.state != ready {
		return unknown("sandbox container %q is not running", sb.id)
	}
	image := s.findImage(c.config.GetImage().GetImage())
	if image == nil {
		return notFound("image", c.config.GetImage().GetImage())
	}
	c.sandboxID, c.imageID, c.program = sb.id, image.GetId(), s.config.Program(c.config)
	var err error
	c.id, err = s.reserve("container", containerName(c.config.GetMetadata(), c.pod))
	return err
}

func (s *Server) addContainer(c *container) error {
	sb := s.sandboxes[c.sandboxID]
	if sb == nil { // removed while this was under way
		s.release(c.id)
		return notFound("sandbox", c.sandboxID)
	}
	c.createdAt = time.Now()
	s.containers[c.id] = c
	s.emit(c.id, sb, runtimev1.ContainerEventType_CONTAINER_CREATED_EVENT)
	return nil
}

// StartContainer starts a created container.
func (s *Server) StartContainer(ctx context.Context, r *runtimev1.StartContainerRequest) (*runtimev1.StartContainerResponse, error) {
	err := s.run(ctx, step{op: "StartContainer", key: s.containerKey(r.GetContainerId()), work: func() error {
		c := s.findContainer(r.GetContainerId())
		if c == nil {
			return notFound("container", r.GetContainerId())
		}
		return s.start(c)
	}})
	if err != nil {
		return nil, err
	}
	return &runtimev1.StartContainerResponse{}, nil
}

func (s *Server) start(c *container) error {
	if c.state != created {
		return unknown("failed to set starting state for container %q: container is in %s state", c.id, c.state)
	}
	if sb := s.sandboxes[c.sandboxID]; sb == nil || sb.state != ready {
		return s.failStart(c, unknown("sandbox container %q is not running", c.sandboxID))
	}
	if c.program.StartError != "" {
		return s.failStart(c, unknown("failed to create containerd task: %s", c.program.StartError))
	}
	for _, other := range s.containersOf(c.sandboxID) {
		if other.state == running && other.ending == nil && other.key() == c.key() {
			s.incident("a second running instance of %s", c.key())
		}
	}
	c.state, c.startedAt = running, time.Now()
	if c.program.RunFor > 0 {
		c.timer = s.afterLocked(c.program.RunFor, func() { s.exit(c, c.program.ExitCode, "") })
	}
	s.emit(c.id, s.sandboxes[c.sandboxID], runtimev1.ContainerEventType_CONTAINER_STARTED_EVENT)
	return nil
}

// failStart leaves the container exited, as containerd does.
func (s *Server) failStart(c *container, err error) error {
	c.state, c.finishedAt, c.exitCode = exited, time.Now(), notBegun
	c.reason, c.message = "StartError", err.Error()
	close(c.gone)
	return err
}

// exit ends a running container. One that has ended and is still said to run is not any more.
func (s *Server) exit(c *container, code int32, reason string) {
	if c.state != running {
		return
	}
	if c.timer != nil {
		c.timer.Stop()
		delete(s.timers, c.timer)
	}
	switch {
	case c.ending != nil:
		c.ending.lag.Stop()
		delete(s.timers, c.ending.lag)
	case s.config.ExitLag > 0:
		c.ending = &ending{at: time.Now(), code: code, reason: reason}
		c.ending.lag = s.afterLocked(s.config.ExitLag, func() { s.finish(c) })
		s.tellExit(c)
		return
	default:
		c.ending = &ending{at: time.Now(), code: code, reason: reason}
		s.tellExit(c)
	}
	s.finish(c)
}

// finish says that a container has ended.
func (s *Server) finish(c *container) {
	c.state, c.finishedAt, c.exitCode, c.reason = exited, c.ending.at, c.ending.code, c.ending.reason
	switch {
	case c.reason != "":
	case c.exitCode == 0:
		c.reason = "Completed"
	default:
		c.reason = "Error"
	}
	close(c.gone)
	s.emit(c.id, s.sandboxes[c.sandboxID], runtimev1.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

// StopContainer ends a container within the grace period, waiting for it. A container that does not
// run, or is unknown, is a stopped one.
func (s *Server) StopContainer(ctx context.Context, r *runtimev1.StopContainerRequest) (*runtimev1.StopContainerResponse, error) {
	var c *container
	err := s.run(ctx, step{op: "StopContainer", key: s.containerKey(r.GetContainerId()), work: func() error {
		found := s.findContainer(r.GetContainerId())
		if found == nil || found.state != running {
			return nil
		}
		c = found
		if r.GetTimeout() <= 0 {
			s.exit(c, sigkilled, "Error")
		} else if !c.program.IgnoreTerm {
			s.afterLocked(c.program.StopAfter, func() { s.exit(found, sigtermed, "Error") })
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	if c == nil {
		return &runtimev1.StopContainerResponse{}, nil
	}
	grace := time.NewTimer(time.Duration(r.GetTimeout()) * time.Second)
	defer grace.Stop()
	select {
	case <-c.gone:
	case <-grace.C:
		s.locked(func() { s.exit(c, sigkilled, "Error") })
	case <-ctx.Done(): // SIGTERM is out, SIGKILL will not come: so it is in containerd, too
		return nil, ctx.Err()
	}
	return &runtimev1.StopContainerResponse{}, nil
}

// RemoveContainer removes a container, killing it when it runs. An unknown one is a removed one.
func (s *Server) RemoveContainer(ctx context.Context, r *runtimev1.RemoveContainerRequest) (*runtimev1.RemoveContainerResponse, error) {
	err := s.run(ctx, step{op: "RemoveContainer", key: s.containerKey(r.GetContainerId()), work: func() error {
		c := s.findContainer(r.GetContainerId())
		if c == nil {
			return nil
		}
		if c.state == running {
			if c.ending == nil {
				s.incident("%s killed without grace by removing it", c.key())
			}
			s.exit(c, sigkilled, "Error")
		}
		s.removeContainer(c)
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return &runtimev1.RemoveContainerResponse{}, nil
}

func (s *Server) removeContainer(c *container) {
	delete(s.containers, c.id)
	s.release(c.id)
	s.emit(c.id, s.sandboxes[c.sandboxID], runtimev1.ContainerEventType_CONTAINER_DELETED_EVENT)
}

// ListContainers tells the containers that match the filter, oldest first.
func (s *Server) ListContainers(ctx context.Context, r *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error) {
	resp := &runtimev1.ListContainersResponse{}
	err := s.run(ctx, step{op: "ListContainers", work: func() error {
		for _, c := range s.allContainers() {
			if c.matches(r.GetFilter()) {
				resp.Containers = append(resp.Containers, c.item())
			}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ContainerStatus tells the state of one container.
func (s *Server) ContainerStatus(ctx context.Context, r *runtimev1.ContainerStatusRequest) (*runtimev1.ContainerStatusResponse, error) {
	var resp *runtimev1.ContainerStatusResponse
	err := s.run(ctx, step{op: "ContainerStatus", key: s.containerKey(r.GetContainerId()), work: func() error {
		c := s.findContainer(r.GetContainerId())
		if c == nil {
			return notFound("container", r.GetContainerId())
		}
		resp = &runtimev1.ContainerStatusResponse{Status: c.status()}
		return nil
	}})
	return resp, err
}

// UpdateContainerResources keeps the new resources of a container that is created or runs.
func (s *Server) UpdateContainerResources(ctx context.Context, r *runtimev1.UpdateContainerResourcesRequest) (*runtimev1.UpdateContainerResourcesResponse, error) {
	err := s.run(ctx, step{op: "UpdateContainerResources", key: s.containerKey(r.GetContainerId()), work: func() error {
		c := s.findContainer(r.GetContainerId())
		if c == nil {
			return notFound("container", r.GetContainerId())
		}
		if c.state == exited {
			return unknown("failed to update resources: container %q is in %s state", c.id, c.state)
		}
		c.config = proto.CloneOf(c.config)
		if c.config.GetLinux() == nil {
			c.config.Linux = &runtimev1.LinuxContainerConfig{}
		}
		c.config.Linux.Resources = r.GetLinux()
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return &runtimev1.UpdateContainerResourcesResponse{}, nil
}

// ReopenContainerLog succeeds on a running container.
func (s *Server) ReopenContainerLog(ctx context.Context, r *runtimev1.ReopenContainerLogRequest) (*runtimev1.ReopenContainerLogResponse, error) {
	err := s.run(ctx, step{op: "ReopenContainerLog", key: s.containerKey(r.GetContainerId()), work: func() error {
		return s.mustRun(r.GetContainerId())
	}})
	if err != nil {
		return nil, err
	}
	return &runtimev1.ReopenContainerLogResponse{}, nil
}

func (s *Server) mustRun(id string) error {
	c := s.findContainer(id)
	if c == nil {
		return notFound("container", id)
	}
	if c.state != running {
		return unknown("container is not running")
	}
	return nil
}

func (s *Server) allContainers() []*container {
	return byAge(s.containers, func(c *container) (time.Time, string) { return c.createdAt, c.id })
}

func (s *Server) containersOf(sandboxID string) []*container {
	return slices.DeleteFunc(s.allContainers(), func(c *container) bool { return c.sandboxID != sandboxID })
}

func (c *container) matches(f *runtimev1.ContainerFilter) bool {
	return (f.GetId() == "" || f.GetId() == c.id) &&
		(f.GetPodSandboxId() == "" || f.GetPodSandboxId() == c.sandboxID) &&
		(f.GetState() == nil || f.GetState().GetState() == c.state) &&
		labelled(c.config.GetLabels(), f.GetLabelSelector())
}

func (c *container) item() *runtimev1.Container {
	return &runtimev1.Container{
		Id: c.id, PodSandboxId: c.sandboxID, Metadata: c.config.GetMetadata(), Image: c.config.GetImage(),
		ImageRef: c.imageID, ImageId: c.imageID, State: c.state, CreatedAt: c.createdAt.UnixNano(),
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
	}
}

func (c *container) status() *runtimev1.ContainerStatus {
	return &runtimev1.ContainerStatus{
		Id: c.id, Metadata: c.config.GetMetadata(), State: c.state,
		CreatedAt: c.createdAt.UnixNano(), StartedAt: nano(c.startedAt), FinishedAt: nano(c.finishedAt),
		ExitCode: c.exitCode, Image: c.config.GetImage(), ImageRef: c.imageID, ImageId: c.imageID,
		Reason: c.reason, Message: c.message, Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		Mounts: c.config.GetMounts(), LogPath: c.config.GetLogPath(),
		Resources: &runtimev1.ContainerResources{Linux: c.config.GetLinux().GetResources()},
	}
}

// nano is 0 for a time that has not come, as in CRI.
func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
