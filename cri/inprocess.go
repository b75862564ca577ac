package cri

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Server is a runtime in this process.
type Server struct {
	Endpoint string // for messages
	Runtime  runtimev1.RuntimeServiceServer
	Image    runtimev1.ImageServiceServer
	// Context prepares the context of a call, as an interceptor on a socket would; may be nil.
	Context func(context.Context) context.Context
	// Status turns the runtime's errors into gRPC status errors, as its socket would; may be nil.
	Status func(error) error
}

// InProcess makes a client that calls the runtime's methods directly: no socket, no encoding.
func InProcess(s Server, deps Deps) *Client {
	if s.Context == nil {
		s.Context = func(ctx context.Context) context.Context { return ctx }
	}
	if s.Status == nil {
		s.Status = func(err error) error { return err }
	}
	return newClient(s.Endpoint, &local{s}, deps)
}

// local is a runtime in this process.
type local struct{ s Server }

// direct does for an in-process call what gRPC's client and server do around a remote one: when ctx
// ends the caller goes on at once, even if the runtime, stuck in a mount or a shim, does not.
func direct[Req, Resp any](ctx context.Context, l *local, do func(context.Context, Req) (Resp, error), req Req) (Resp, error) {
	type result struct {
		resp Resp
		err  error
	}
	ctx = l.s.Context(ctx)
	done := make(chan result, 1)
	go func() {
		resp, err := do(ctx, req)
		if err != nil {
			err = l.s.Status(err)
		}
		done <- result{resp, err}
	}()
	select {
	case r := <-done:
		return r.resp, r.err
	case <-ctx.Done():
		var none Resp
		return none, ctx.Err()
	}
}

func (l *local) events(ctx context.Context, fn func(*runtimev1.ContainerEventResponse)) error {
	ctx = l.s.Context(ctx)
	stream := &localEvents{ctx: ctx, fn: fn}
	done := make(chan error, 1)
	// containerd looks at the stream's context only when it has an event to send, so the handler
	// may outlive this call until the next event; localEvents then refuses it.
	go func() { done <- l.s.Runtime.GetContainerEvents(&runtimev1.GetEventsRequest{}, stream) }()
	select {
	case <-ctx.Done():
		stream.end()
		return ctx.Err()
	case err := <-done:
		if err != nil {
			err = l.s.Status(err)
		}
		return err
	}
}

// localEvents is the server's side of an event stream that ends in fn.
type localEvents struct {
	grpc.ServerStream // not called by a runtime
	ctx               context.Context
	fn                func(*runtimev1.ContainerEventResponse)

	mu    sync.Mutex
	ended bool
}

func (e *localEvents) Context() context.Context { return e.ctx }

func (e *localEvents) Send(event *runtimev1.ContainerEventResponse) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return context.Canceled
	}
	e.fn(event)
	return nil
}

// end makes sure that fn is not called any more.
func (e *localEvents) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
}

func (l *local) Version(ctx context.Context, req *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	return direct(ctx, l, l.s.Runtime.Version, req)
}

func (l *local) Status(ctx context.Context, req *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error) {
	return direct(ctx, l, l.s.Runtime.Status, req)
}

func (l *local) RuntimeConfig(ctx context.Context, req *runtimev1.RuntimeConfigRequest) (*runtimev1.RuntimeConfigResponse, error) {
	return direct(ctx, l, l.s.Runtime.RuntimeConfig, req)
}

func (l *local) UpdateRuntimeConfig(ctx context.Context, req *runtimev1.UpdateRuntimeConfigRequest) (*runtimev1.UpdateRuntimeConfigResponse, error) {
	return direct(ctx, l, l.s.Runtime.UpdateRuntimeConfig, req)
}

func (l *local) RunPodSandbox(ctx context.Context, req *runtimev1.RunPodSandboxRequest) (*runtimev1.RunPodSandboxResponse, error) {
	return direct(ctx, l, l.s.Runtime.RunPodSandbox, req)
}

func (l *local) StopPodSandbox(ctx context.Context, req *runtimev1.StopPodSandboxRequest) (*runtimev1.StopPodSandboxResponse, error) {
	return direct(ctx, l, l.s.Runtime.StopPodSandbox, req)
}

func (l *local) RemovePodSandbox(ctx context.Context, req *runtimev1.RemovePodSandboxRequest) (*runtimev1.RemovePodSandboxResponse, error) {
	return direct(ctx, l, l.s.Runtime.RemovePodSandbox, req)
}

func (l *local) PodSandboxStatus(ctx context.Context, req *runtimev1.PodSandboxStatusRequest) (*runtimev1.PodSandboxStatusResponse, error) {
	return direct(ctx, l, l.s.Runtime.PodSandboxStatus, req)
}

func (l *local) ListPodSandbox(ctx context.Context, req *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
	return direct(ctx, l, l.s.Runtime.ListPodSandbox, req)
}

func (l *local) UpdatePodSandboxResources(ctx context.Context, req *runtimev1.UpdatePodSandboxResourcesRequest) (*runtimev1.UpdatePodSandboxResourcesResponse, error) {
	return direct(ctx, l, l.s.Runtime.UpdatePodSandboxResources, req)
}

func (l *local) CreateContainer(ctx context.Context, req *runtimev1.CreateContainerRequest) (*runtimev1.CreateContainerResponse, error) {
	return direct(ctx, l, l.s.Runtime.CreateContainer, req)
}

func (l *local) StartContainer(ctx context.Context, req *runtimev1.StartContainerRequest) (*runtimev1.StartContainerResponse, error) {
	return direct(ctx, l, l.s.Runtime.StartContainer, req)
}

func (l *local) StopContainer(ctx context.Context, req *runtimev1.StopContainerRequest) (*runtimev1.StopContainerResponse, error) {
	return direct(ctx, l, l.s.Runtime.StopContainer, req)
}

func (l *local) RemoveContainer(ctx context.Context, req *runtimev1.RemoveContainerRequest) (*runtimev1.RemoveContainerResponse, error) {
	return direct(ctx, l, l.s.Runtime.RemoveContainer, req)
}

func (l *local) ListContainers(ctx context.Context, req *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error) {
	return direct(ctx, l, l.s.Runtime.ListContainers, req)
}

func (l *local) ContainerStatus(ctx context.Context, req *runtimev1.ContainerStatusRequest) (*runtimev1.ContainerStatusResponse, error) {
	return direct(ctx, l, l.s.Runtime.ContainerStatus, req)
}

func (l *local) UpdateContainerResources(ctx context.Context, req *runtimev1.UpdateContainerResourcesRequest) (*runtimev1.UpdateContainerResourcesResponse, error) {
	return direct(ctx, l, l.s.Runtime.UpdateContainerResources, req)
}

func (l *local) ReopenContainerLog(ctx context.Context, req *runtimev1.ReopenContainerLogRequest) (*runtimev1.ReopenContainerLogResponse, error) {
	return direct(ctx, l, l.s.Runtime.ReopenContainerLog, req)
}

func (l *local) ExecSync(ctx context.Context, req *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error) {
	return direct(ctx, l, l.s.Runtime.ExecSync, req)
}

func (l *local) Exec(ctx context.Context, req *runtimev1.ExecRequest) (*runtimev1.ExecResponse, error) {
	return direct(ctx, l, l.s.Runtime.Exec, req)
}

func (l *local) Attach(ctx context.Context, req *runtimev1.AttachRequest) (*runtimev1.AttachResponse, error) {
	return direct(ctx, l, l.s.Runtime.Attach, req)
}

func (l *local) PortForward(ctx context.Context, req *runtimev1.PortForwardRequest) (*runtimev1.PortForwardResponse, error) {
	return direct(ctx, l, l.s.Runtime.PortForward, req)
}

func (l *local) ContainerStats(ctx context.Context, req *runtimev1.ContainerStatsRequest) (*runtimev1.ContainerStatsResponse, error) {
	return direct(ctx, l, l.s.Runtime.ContainerStats, req)
}

func (l *local) ListContainerStats(ctx context.Context, req *runtimev1.ListContainerStatsRequest) (*runtimev1.ListContainerStatsResponse, error) {
	return direct(ctx, l, l.s.Runtime.ListContainerStats, req)
}

func (l *local) PodSandboxStats(ctx context.Context, req *runtimev1.PodSandboxStatsRequest) (*runtimev1.PodSandboxStatsResponse, error) {
	return direct(ctx, l, l.s.Runtime.PodSandboxStats, req)
}

func (l *local) ListPodSandboxStats(ctx context.Context, req *runtimev1.ListPodSandboxStatsRequest) (*runtimev1.ListPodSandboxStatsResponse, error) {
	return direct(ctx, l, l.s.Runtime.ListPodSandboxStats, req)
}

func (l *local) ListImages(ctx context.Context, req *runtimev1.ListImagesRequest) (*runtimev1.ListImagesResponse, error) {
	return direct(ctx, l, l.s.Image.ListImages, req)
}

func (l *local) ImageStatus(ctx context.Context, req *runtimev1.ImageStatusRequest) (*runtimev1.ImageStatusResponse, error) {
	return direct(ctx, l, l.s.Image.ImageStatus, req)
}

func (l *local) PullImage(ctx context.Context, req *runtimev1.PullImageRequest) (*runtimev1.PullImageResponse, error) {
	return direct(ctx, l, l.s.Image.PullImage, req)
}

func (l *local) RemoveImage(ctx context.Context, req *runtimev1.RemoveImageRequest) (*runtimev1.RemoveImageResponse, error) {
	return direct(ctx, l, l.s.Image.RemoveImage, req)
}

func (l *local) ImageFsInfo(ctx context.Context, req *runtimev1.ImageFsInfoRequest) (*runtimev1.ImageFsInfoResponse, error) {
	return direct(ctx, l, l.s.Image.ImageFsInfo, req)
}
