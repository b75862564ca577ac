package cri

import (
	"context"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Runtime is one container runtime. Client implements it; the agent asks for nothing more, so a
// test may put anything in its place.
//
// Errors are *Error and answer errors.Is for ErrUnavailable, ErrUnimplemented, ErrNotFound,
// context.DeadlineExceeded and context.Canceled; NameReserved tells who holds a name.
type Runtime interface {
	Sandboxes
	Containers
	Streams
	Stats
	Images

	// Endpoint names the runtime for messages, like "unix:///run/containerd/containerd.sock".
	Endpoint() string
	Version(context.Context, *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error)
	Status(context.Context, *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error)
	// RuntimeConfig tells the runtime's cgroup driver; ErrUnimplemented before containerd 2.0.
	RuntimeConfig(context.Context, *runtimev1.RuntimeConfigRequest) (*runtimev1.RuntimeConfigResponse, error)
	UpdateRuntimeConfig(context.Context, *runtimev1.UpdateRuntimeConfigRequest) (*runtimev1.UpdateRuntimeConfigResponse, error)

	// Events calls fn for every container event until ctx ends (then it returns nil) or the
	// stream breaks (an error: relist, then call again). Events are hints to go and look: they may
	// be lost, doubled or late. ErrUnimplemented means that only relisting works. fn must be quick:
	// it runs on the runtime's own publishing path.
	Events(ctx context.Context, fn func(*runtimev1.ContainerEventResponse)) error
}

// Sandboxes are the calls about pod sandboxes.
type Sandboxes interface {
	RunPodSandbox(context.Context, *runtimev1.RunPodSandboxRequest) (*runtimev1.RunPodSandboxResponse, error)
	StopPodSandbox(context.Context, *runtimev1.StopPodSandboxRequest) (*runtimev1.StopPodSandboxResponse, error)
	RemovePodSandbox(context.Context, *runtimev1.RemovePodSandboxRequest) (*runtimev1.RemovePodSandboxResponse, error)
	PodSandboxStatus(context.Context, *runtimev1.PodSandboxStatusRequest) (*runtimev1.PodSandboxStatusResponse, error)
	ListPodSandbox(context.Context, *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error)
	UpdatePodSandboxResources(context.Context, *runtimev1.UpdatePodSandboxResourcesRequest) (*runtimev1.UpdatePodSandboxResourcesResponse, error)
}

// Containers are the calls about the containers in sandboxes.
type Containers interface {
	CreateContainer(context.Context, *runtimev1.CreateContainerRequest) (*runtimev1.CreateContainerResponse, error)
	StartContainer(context.Context, *runtimev1.StartContainerRequest) (*runtimev1.StartContainerResponse, error)
	// StopContainer may take the request's grace period; its deadline allows for that.
	StopContainer(context.Context, *runtimev1.StopContainerRequest) (*runtimev1.StopContainerResponse, error)
	RemoveContainer(context.Context, *runtimev1.RemoveContainerRequest) (*runtimev1.RemoveContainerResponse, error)
	ListContainers(context.Context, *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error)
	ContainerStatus(context.Context, *runtimev1.ContainerStatusRequest) (*runtimev1.ContainerStatusResponse, error)
	UpdateContainerResources(context.Context, *runtimev1.UpdateContainerResourcesRequest) (*runtimev1.UpdateContainerResourcesResponse, error)
	// ReopenContainerLog makes the runtime write to a fresh file after the agent moved the old one.
	ReopenContainerLog(context.Context, *runtimev1.ReopenContainerLogRequest) (*runtimev1.ReopenContainerLogResponse, error)
}

// Streams are the calls that reach into a running container. All but ExecSync answer with the
// address of the runtime's streaming server.
type Streams interface {
	// ExecSync runs for at most the request's time-out; without one, as long as ctx allows.
	ExecSync(context.Context, *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error)
	Exec(context.Context, *runtimev1.ExecRequest) (*runtimev1.ExecResponse, error)
	Attach(context.Context, *runtimev1.AttachRequest) (*runtimev1.AttachResponse, error)
	PortForward(context.Context, *runtimev1.PortForwardRequest) (*runtimev1.PortForwardResponse, error)
}

// Stats are the calls about what containers and sandboxes use.
type Stats interface {
	ContainerStats(context.Context, *runtimev1.ContainerStatsRequest) (*runtimev1.ContainerStatsResponse, error)
	ListContainerStats(context.Context, *runtimev1.ListContainerStatsRequest) (*runtimev1.ListContainerStatsResponse, error)
	PodSandboxStats(context.Context, *runtimev1.PodSandboxStatsRequest) (*runtimev1.PodSandboxStatsResponse, error)
	ListPodSandboxStats(context.Context, *runtimev1.ListPodSandboxStatsRequest) (*runtimev1.ListPodSandboxStatsResponse, error)
}

// Images are the calls of the image service.
type Images interface {
	ListImages(context.Context, *runtimev1.ListImagesRequest) (*runtimev1.ListImagesResponse, error)
	// ImageStatus answers with a nil Image when the image is not there: that is no error.
	ImageStatus(context.Context, *runtimev1.ImageStatusRequest) (*runtimev1.ImageStatusResponse, error)
	// PullImage takes as long as it takes: bound it by ctx.
	PullImage(context.Context, *runtimev1.PullImageRequest) (*runtimev1.PullImageResponse, error)
	RemoveImage(context.Context, *runtimev1.RemoveImageRequest) (*runtimev1.RemoveImageResponse, error)
	ImageFsInfo(context.Context, *runtimev1.ImageFsInfoRequest) (*runtimev1.ImageFsInfoResponse, error)
}
