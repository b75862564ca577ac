package cri

import (
	"context"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The calls, in the order of the Runtime interface. What each does is said there.

// Version is Runtime.Version.
func (c *Client) Version(ctx context.Context, req *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	return call(ctx, c, rpc[*runtimev1.VersionRequest, *runtimev1.VersionResponse]{op: "Version", do: c.server.Version}, req)
}

// Status is Runtime.Status.
func (c *Client) Status(ctx context.Context, req *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error) {
	return call(ctx, c, rpc[*runtimev1.StatusRequest, *runtimev1.StatusResponse]{op: "Status", do: c.server.Status}, req)
}

// RuntimeConfig is Runtime.RuntimeConfig.
func (c *Client) RuntimeConfig(ctx context.Context, req *runtimev1.RuntimeConfigRequest) (*runtimev1.RuntimeConfigResponse, error) {
	return call(ctx, c, rpc[*runtimev1.RuntimeConfigRequest, *runtimev1.RuntimeConfigResponse]{op: "RuntimeConfig", do: c.server.RuntimeConfig}, req)
}

// UpdateRuntimeConfig is Runtime.UpdateRuntimeConfig.
func (c *Client) UpdateRuntimeConfig(ctx context.Context, req *runtimev1.UpdateRuntimeConfigRequest) (*runtimev1.UpdateRuntimeConfigResponse, error) {
	return call(ctx, c, rpc[*runtimev1.UpdateRuntimeConfigRequest, *runtimev1.UpdateRuntimeConfigResponse]{op: "UpdateRuntimeConfig", do: c.server.UpdateRuntimeConfig}, req)
}

// RunPodSandbox is Runtime.RunPodSandbox.
func (c *Client) RunPodSandbox(ctx context.Context, req *runtimev1.RunPodSandboxRequest) (*runtimev1.RunPodSandboxResponse, error) {
	return call(ctx, c, rpc[*runtimev1.RunPodSandboxRequest, *runtimev1.RunPodSandboxResponse]{op: "RunPodSandbox", do: c.server.RunPodSandbox}, req)
}

// StopPodSandbox is Runtime.StopPodSandbox.
func (c *Client) StopPodSandbox(ctx context.Context, req *runtimev1.StopPodSandboxRequest) (*runtimev1.StopPodSandboxResponse, error) {
	return call(ctx, c, rpc[*runtimev1.StopPodSandboxRequest, *runtimev1.StopPodSandboxResponse]{op: "StopPodSandbox", do: c.server.StopPodSandbox}, req)
}

// RemovePodSandbox is Runtime.RemovePodSandbox.
func (c *Client) RemovePodSandbox(ctx context.Context, req *runtimev1.RemovePodSandboxRequest) (*runtimev1.RemovePodSandboxResponse, error) {
	return call(ctx, c, rpc[*runtimev1.RemovePodSandboxRequest, *runtimev1.RemovePodSandboxResponse]{op: "RemovePodSandbox", do: c.server.RemovePodSandbox}, req)
}

// PodSandboxStatus is Runtime.PodSandboxStatus.
func (c *Client) PodSandboxStatus(ctx context.Context, req *runtimev1.PodSandboxStatusRequest) (*runtimev1.PodSandboxStatusResponse, error) {
	return call(ctx, c, rpc[*runtimev1.PodSandboxStatusRequest, *runtimev1.PodSandboxStatusResponse]{op: "PodSandboxStatus", do: c.server.PodSandboxStatus}, req)
}

// ListPodSandbox is Runtime.ListPodSandbox.
func (c *Client) ListPodSandbox(ctx context.Context, req *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ListPodSandboxRequest, *runtimev1.ListPodSandboxResponse]{op: "ListPodSandbox", do: c.server.ListPodSandbox}, req)
}

// UpdatePodSandboxResources is Runtime.UpdatePodSandboxResources.
func (c *Client) UpdatePodSandboxResources(ctx context.Context, req *runtimev1.UpdatePodSandboxResourcesRequest) (*runtimev1.UpdatePodSandboxResourcesResponse, error) {
	return call(ctx, c, rpc[*runtimev1.UpdatePodSandboxResourcesRequest, *runtimev1.UpdatePodSandboxResourcesResponse]{op: "UpdatePodSandboxResources", do: c.server.UpdatePodSandboxResources}, req)
}

// CreateContainer is Runtime.CreateContainer.
func (c *Client) CreateContainer(ctx context.Context, req *runtimev1.CreateContainerRequest) (*runtimev1.CreateContainerResponse, error) {
	return call(ctx, c, rpc[*runtimev1.CreateContainerRequest, *runtimev1.CreateContainerResponse]{op: "CreateContainer", do: c.server.CreateContainer}, req)
}

// StartContainer is Runtime.StartContainer.
func (c *Client) StartContainer(ctx context.Context, req *runtimev1.StartContainerRequest) (*runtimev1.StartContainerResponse, error) {
	return call(ctx, c, rpc[*runtimev1.StartContainerRequest, *runtimev1.StartContainerResponse]{op: "StartContainer", do: c.server.StartContainer}, req)
}

// StopContainer is Runtime.StopContainer.
func (c *Client) StopContainer(ctx context.Context, req *runtimev1.StopContainerRequest) (*runtimev1.StopContainerResponse, error) {
	return call(ctx, c, rpc[*runtimev1.StopContainerRequest, *runtimev1.StopContainerResponse]{op: "StopContainer", do: c.server.StopContainer, timeout: c.deps.Timeout + seconds(req.GetTimeout())}, req)
}

// RemoveContainer is Runtime.RemoveContainer.
func (c *Client) RemoveContainer(ctx context.Context, req *runtimev1.RemoveContainerRequest) (*runtimev1.RemoveContainerResponse, error) {
	return call(ctx, c, rpc[*runtimev1.RemoveContainerRequest, *runtimev1.RemoveContainerResponse]{op: "RemoveContainer", do: c.server.RemoveContainer}, req)
}

// ListContainers is Runtime.ListContainers.
func (c *Client) ListContainers(ctx context.Context, req *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ListContainersRequest, *runtimev1.ListContainersResponse]{op: "ListContainers", do: c.server.ListContainers}, req)
}

// ContainerStatus is Runtime.ContainerStatus.
func (c *Client) ContainerStatus(ctx context.Context, req *runtimev1.ContainerStatusRequest) (*runtimev1.ContainerStatusResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ContainerStatusRequest, *runtimev1.ContainerStatusResponse]{op: "ContainerStatus", do: c.server.ContainerStatus}, req)
}

// UpdateContainerResources is Runtime.UpdateContainerResources.
func (c *Client) UpdateContainerResources(ctx context.Context, req *runtimev1.UpdateContainerResourcesRequest) (*runtimev1.UpdateContainerResourcesResponse, error) {
	return call(ctx, c, rpc[*runtimev1.UpdateContainerResourcesRequest, *runtimev1.UpdateContainerResourcesResponse]{op: "UpdateContainerResources", do: c.server.UpdateContainerResources}, req)
}

// ReopenContainerLog is Runtime.ReopenContainerLog.
func (c *Client) ReopenContainerLog(ctx context.Context, req *runtimev1.ReopenContainerLogRequest) (*runtimev1.ReopenContainerLogResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ReopenContainerLogRequest, *runtimev1.ReopenContainerLogResponse]{op: "ReopenContainerLog", do: c.server.ReopenContainerLog}, req)
}

// ExecSync is Runtime.ExecSync.
func (c *Client) ExecSync(ctx context.Context, req *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ExecSyncRequest, *runtimev1.ExecSyncResponse]{op: "ExecSync", do: c.server.ExecSync, timeout: c.execTimeout(req)}, req)
}

// Exec is Runtime.Exec.
func (c *Client) Exec(ctx context.Context, req *runtimev1.ExecRequest) (*runtimev1.ExecResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ExecRequest, *runtimev1.ExecResponse]{op: "Exec", do: c.server.Exec}, req)
}

// Attach is Runtime.Attach.
func (c *Client) Attach(ctx context.Context, req *runtimev1.AttachRequest) (*runtimev1.AttachResponse, error) {
	return call(ctx, c, rpc[*runtimev1.AttachRequest, *runtimev1.AttachResponse]{op: "Attach", do: c.server.Attach}, req)
}

// PortForward is Runtime.PortForward.
func (c *Client) PortForward(ctx context.Context, req *runtimev1.PortForwardRequest) (*runtimev1.PortForwardResponse, error) {
	return call(ctx, c, rpc[*runtimev1.PortForwardRequest, *runtimev1.PortForwardResponse]{op: "PortForward", do: c.server.PortForward}, req)
}

// ContainerStats is Runtime.ContainerStats.
func (c *Client) ContainerStats(ctx context.Context, req *runtimev1.ContainerStatsRequest) (*runtimev1.ContainerStatsResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ContainerStatsRequest, *runtimev1.ContainerStatsResponse]{op: "ContainerStats", do: c.server.ContainerStats}, req)
}

// ListContainerStats is Runtime.ListContainerStats.
func (c *Client) ListContainerStats(ctx context.Context, req *runtimev1.ListContainerStatsRequest) (*runtimev1.ListContainerStatsResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ListContainerStatsRequest, *runtimev1.ListContainerStatsResponse]{op: "ListContainerStats", do: c.server.ListContainerStats}, req)
}

// PodSandboxStats is Runtime.PodSandboxStats.
func (c *Client) PodSandboxStats(ctx context.Context, req *runtimev1.PodSandboxStatsRequest) (*runtimev1.PodSandboxStatsResponse, error) {
	return call(ctx, c, rpc[*runtimev1.PodSandboxStatsRequest, *runtimev1.PodSandboxStatsResponse]{op: "PodSandboxStats", do: c.server.PodSandboxStats}, req)
}

// ListPodSandboxStats is Runtime.ListPodSandboxStats.
func (c *Client) ListPodSandboxStats(ctx context.Context, req *runtimev1.ListPodSandboxStatsRequest) (*runtimev1.ListPodSandboxStatsResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ListPodSandboxStatsRequest, *runtimev1.ListPodSandboxStatsResponse]{op: "ListPodSandboxStats", do: c.server.ListPodSandboxStats}, req)
}

// ListImages is Runtime.ListImages.
func (c *Client) ListImages(ctx context.Context, req *runtimev1.ListImagesRequest) (*runtimev1.ListImagesResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ListImagesRequest, *runtimev1.ListImagesResponse]{op: "ListImages", do: c.server.ListImages}, req)
}

// ImageStatus is Runtime.ImageStatus.
func (c *Client) ImageStatus(ctx context.Context, req *runtimev1.ImageStatusRequest) (*runtimev1.ImageStatusResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ImageStatusRequest, *runtimev1.ImageStatusResponse]{op: "ImageStatus", do: c.server.ImageStatus}, req)
}

// PullImage is Runtime.PullImage.
func (c *Client) PullImage(ctx context.Context, req *runtimev1.PullImageRequest) (*runtimev1.PullImageResponse, error) {
	return call(ctx, c, rpc[*runtimev1.PullImageRequest, *runtimev1.PullImageResponse]{op: "PullImage", do: c.server.PullImage, timeout: unlimited}, req)
}

// RemoveImage is Runtime.RemoveImage.
func (c *Client) RemoveImage(ctx context.Context, req *runtimev1.RemoveImageRequest) (*runtimev1.RemoveImageResponse, error) {
	return call(ctx, c, rpc[*runtimev1.RemoveImageRequest, *runtimev1.RemoveImageResponse]{op: "RemoveImage", do: c.server.RemoveImage}, req)
}

// ImageFsInfo is Runtime.ImageFsInfo.
func (c *Client) ImageFsInfo(ctx context.Context, req *runtimev1.ImageFsInfoRequest) (*runtimev1.ImageFsInfoResponse, error) {
	return call(ctx, c, rpc[*runtimev1.ImageFsInfoRequest, *runtimev1.ImageFsInfoResponse]{op: "ImageFsInfo", do: c.server.ImageFsInfo}, req)
}

func (c *Client) execTimeout(req *runtimev1.ExecSyncRequest) time.Duration {
	if req.GetTimeout() <= 0 {
		return unlimited
	}
	return c.deps.Timeout + seconds(req.GetTimeout())
}

func seconds(n int64) time.Duration { return time.Duration(max(n, 0)) * time.Second }
