package cri

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxMessage is CRI's custom limit: a list of some thousand containers passes gRPC's default 4 MiB.
const maxMessage = 16 << 20

// reconnect bounds how long a runtime that came back is not noticed; gRPC's own limit of two
// minutes would keep a node NotReady.
const reconnect = time.Second

// Dial makes a client for the runtime behind a unix socket. It does not connect: that happens with
// the first call, and again by itself whenever the runtime went away. Only a malformed endpoint is
// an error.
func Dial(endpoint string, deps Deps) (*Client, error) {
	path, err := socketPath(endpoint)
	if err != nil {
		return nil, err
	}
	backoffConfig := backoff.DefaultConfig
	backoffConfig.BaseDelay = 50 * time.Millisecond
	backoffConfig.MaxDelay = reconnect
	target := "unix://" + path
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoffConfig, MinConnectTimeout: time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, fmt.Errorf("use container runtime endpoint %q: %w", endpoint, err)
	}
	c := newClient(target, &remote{
		conn: conn, seed: maphash.MakeSeed(),
		runtime: runtimev1.NewRuntimeServiceClient(conn),
		image:   runtimev1.NewImageServiceClient(conn),
	}, deps)
	c.close = conn.Close
	return c, nil
}

// socketPath accepts what --container-runtime-endpoint accepts: unix:///path and /path.
func socketPath(endpoint string) (string, error) {
	path := strings.TrimPrefix(endpoint, "unix://")
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("use container runtime endpoint %q: want a unix socket like unix:///run/containerd/containerd.sock", endpoint)
	}
	return filepath.Clean(path), nil
}

// remote is a runtime behind a socket.
type remote struct {
	conn    grpc.ClientConnInterface
	seed    maphash.Seed // of digests
	runtime runtimev1.RuntimeServiceClient
	image   runtimev1.ImageServiceClient
}

func (r *remote) events(ctx context.Context, fn func(*runtimev1.ContainerEventResponse)) error {
	stream, err := r.runtime.GetContainerEvents(ctx, &runtimev1.GetEventsRequest{})
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errStreamEnded
		}
		if err != nil {
			return err
		}
		fn(event)
	}
}

func (r *remote) Version(ctx context.Context, req *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	return r.runtime.Version(ctx, req)
}

func (r *remote) Status(ctx context.Context, req *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error) {
	return r.runtime.Status(ctx, req)
}

func (r *remote) RuntimeConfig(ctx context.Context, req *runtimev1.RuntimeConfigRequest) (*runtimev1.RuntimeConfigResponse, error) {
	return r.runtime.RuntimeConfig(ctx, req)
}

func (r *remote) UpdateRuntimeConfig(ctx context.Context, req *runtimev1.UpdateRuntimeConfigRequest) (*runtimev1.UpdateRuntimeConfigResponse, error) {
	return r.runtime.UpdateRuntimeConfig(ctx, req)
}

func (r *remote) RunPodSandbox(ctx context.Context, req *runtimev1.RunPodSandboxRequest) (*runtimev1.RunPodSandboxResponse, error) {
	return r.runtime.RunPodSandbox(ctx, req)
}

func (r *remote) StopPodSandbox(ctx context.Context, req *runtimev1.StopPodSandboxRequest) (*runtimev1.StopPodSandboxResponse, error) {
	return r.runtime.StopPodSandbox(ctx, req)
}

func (r *remote) RemovePodSandbox(ctx context.Context, req *runtimev1.RemovePodSandboxRequest) (*runtimev1.RemovePodSandboxResponse, error) {
	return r.runtime.RemovePodSandbox(ctx, req)
}

func (r *remote) PodSandboxStatus(ctx context.Context, req *runtimev1.PodSandboxStatusRequest) (*runtimev1.PodSandboxStatusResponse, error) {
	return r.runtime.PodSandboxStatus(ctx, req)
}

func (r *remote) ListPodSandbox(ctx context.Context, req *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
	return r.runtime.ListPodSandbox(ctx, req)
}

func (r *remote) UpdatePodSandboxResources(ctx context.Context, req *runtimev1.UpdatePodSandboxResourcesRequest) (*runtimev1.UpdatePodSandboxResourcesResponse, error) {
	return r.runtime.UpdatePodSandboxResources(ctx, req)
}

func (r *remote) CreateContainer(ctx context.Context, req *runtimev1.CreateContainerRequest) (*runtimev1.CreateContainerResponse, error) {
	return r.runtime.CreateContainer(ctx, req)
}

func (r *remote) StartContainer(ctx context.Context, req *runtimev1.StartContainerRequest) (*runtimev1.StartContainerResponse, error) {
	return r.runtime.StartContainer(ctx, req)
}

func (r *remote) StopContainer(ctx context.Context, req *runtimev1.StopContainerRequest) (*runtimev1.StopContainerResponse, error) {
	return r.runtime.StopContainer(ctx, req)
}

func (r *remote) RemoveContainer(ctx context.Context, req *runtimev1.RemoveContainerRequest) (*runtimev1.RemoveContainerResponse, error) {
	return r.runtime.RemoveContainer(ctx, req)
}

func (r *remote) ListContainers(ctx context.Context, req *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error) {
	return r.runtime.ListContainers(ctx, req)
}

func (r *remote) ContainerStatus(ctx context.Context, req *runtimev1.ContainerStatusRequest) (*runtimev1.ContainerStatusResponse, error) {
	return r.runtime.ContainerStatus(ctx, req)
}

func (r *remote) UpdateContainerResources(ctx context.Context, req *runtimev1.UpdateContainerResourcesRequest) (*runtimev1.UpdateContainerResourcesResponse, error) {
	return r.runtime.UpdateContainerResources(ctx, req)
}

func (r *remote) ReopenContainerLog(ctx context.Context, req *runtimev1.ReopenContainerLogRequest) (*runtimev1.ReopenContainerLogResponse, error) {
	return r.runtime.ReopenContainerLog(ctx, req)
}

func (r *remote) ExecSync(ctx context.Context, req *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error) {
	return r.runtime.ExecSync(ctx, req)
}

func (r *remote) Exec(ctx context.Context, req *runtimev1.ExecRequest) (*runtimev1.ExecResponse, error) {
	return r.runtime.Exec(ctx, req)
}

func (r *remote) Attach(ctx context.Context, req *runtimev1.AttachRequest) (*runtimev1.AttachResponse, error) {
	return r.runtime.Attach(ctx, req)
}

func (r *remote) PortForward(ctx context.Context, req *runtimev1.PortForwardRequest) (*runtimev1.PortForwardResponse, error) {
	return r.runtime.PortForward(ctx, req)
}

func (r *remote) ContainerStats(ctx context.Context, req *runtimev1.ContainerStatsRequest) (*runtimev1.ContainerStatsResponse, error) {
	return r.runtime.ContainerStats(ctx, req)
}

func (r *remote) ListContainerStats(ctx context.Context, req *runtimev1.ListContainerStatsRequest) (*runtimev1.ListContainerStatsResponse, error) {
	return r.runtime.ListContainerStats(ctx, req)
}

func (r *remote) PodSandboxStats(ctx context.Context, req *runtimev1.PodSandboxStatsRequest) (*runtimev1.PodSandboxStatsResponse, error) {
	return r.runtime.PodSandboxStats(ctx, req)
}

func (r *remote) ListPodSandboxStats(ctx context.Context, req *runtimev1.ListPodSandboxStatsRequest) (*runtimev1.ListPodSandboxStatsResponse, error) {
	return r.runtime.ListPodSandboxStats(ctx, req)
}

func (r *remote) ListImages(ctx context.Context, req *runtimev1.ListImagesRequest) (*runtimev1.ListImagesResponse, error) {
	return r.image.ListImages(ctx, req)
}

func (r *remote) ImageStatus(ctx context.Context, req *runtimev1.ImageStatusRequest) (*runtimev1.ImageStatusResponse, error) {
	return r.image.ImageStatus(ctx, req)
}

func (r *remote) PullImage(ctx context.Context, req *runtimev1.PullImageRequest) (*runtimev1.PullImageResponse, error) {
	return r.image.PullImage(ctx, req)
}

func (r *remote) RemoveImage(ctx context.Context, req *runtimev1.RemoveImageRequest) (*runtimev1.RemoveImageResponse, error) {
	return r.image.RemoveImage(ctx, req)
}

func (r *remote) ImageFsInfo(ctx context.Context, req *runtimev1.ImageFsInfoRequest) (*runtimev1.ImageFsInfoResponse, error) {
	return r.image.ImageFsInfo(ctx, req)
}
