package critest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Version tells the runtime's name.
func (s *Server) Version(ctx context.Context, _ *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	err := s.run(ctx, step{op: "Version", work: func() error { return nil }})
	if err != nil {
		return nil, err
	}
	return &runtimev1.VersionResponse{Version: "0.1.0", RuntimeName: "critest", RuntimeVersion: "v1", RuntimeApiVersion: "v1"}, nil
}

// Status tells that runtime and network are ready.
func (s *Server) Status(ctx context.Context, _ *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error) {
	err := s.run(ctx, step{op: "Status", work: func() error { return nil }})
	if err != nil {
		return nil, err
	}
	return &runtimev1.StatusResponse{
		Status: &runtimev1.RuntimeStatus{Conditions: []*runtimev1.RuntimeCondition{
			{Type: runtimev1.RuntimeReady, Status: true},
			{Type: runtimev1.NetworkReady, Status: true},
		}},
		RuntimeHandlers: []*runtimev1.RuntimeHandler{{Features: &runtimev1.RuntimeHandlerFeatures{}}},
	}, nil
}

// RuntimeConfig tells the cgroup driver.
func (s *Server) RuntimeConfig(ctx context.Context, _ *runtimev1.RuntimeConfigRequest) (*runtimev1.RuntimeConfigResponse, error) {
	err := s.run(ctx, step{op: "RuntimeConfig", work: func() error { return nil }})
	if err != nil {
		return nil, err
	}
	driver := runtimev1.CgroupDriver_CGROUPFS
	if s.config.SystemdCgroups {
		driver = runtimev1.CgroupDriver_SYSTEMD
	}
	return &runtimev1.RuntimeConfigResponse{Linux: &runtimev1.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

// UpdateRuntimeConfig takes the pod CIDR note of.
func (s *Server) UpdateRuntimeConfig(ctx context.Context, _ *runtimev1.UpdateRuntimeConfigRequest) (*runtimev1.UpdateRuntimeConfigResponse, error) {
	err := s.run(ctx, step{op: "UpdateRuntimeConfig", work: func() error { return nil }})
	if err != nil {
		return nil, err
	}
	return &runtimev1.UpdateRuntimeConfigResponse{}, nil
}

// ContainerStats tells what one container uses.
func (s *Server) ContainerStats(ctx context.Context, r *runtimev1.ContainerStatsRequest) (*runtimev1.ContainerStatsResponse, error) {
	resp := &runtimev1.ContainerStatsResponse{}
	err := s.run(ctx, step{op: "ContainerStats", key: s.containerKey(r.GetContainerId()), work: func() error {
		c := s.findContainer(r.GetContainerId())
		if c == nil {
			return notFound("container", r.GetContainerId())
		}
		resp.Stats = c.stats()
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListContainerStats tells what the running containers use.
func (s *Server) ListContainerStats(ctx context.Context, r *runtimev1.ListContainerStatsRequest) (*runtimev1.ListContainerStatsResponse, error) {
	f := r.GetFilter()
	filter := &runtimev1.ContainerFilter{Id: f.GetId(), PodSandboxId: f.GetPodSandboxId(), LabelSelector: f.GetLabelSelector()}
	resp := &runtimev1.ListContainerStatsResponse{}
	err := s.run(ctx, step{op: "ListContainerStats", work: func() error {
		for _, c := range s.allContainers() {
			if c.state == running && c.matches(filter) {
				resp.Stats = append(resp.Stats, c.stats())
			}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// PodSandboxStats tells what one sandbox uses.
func (s *Server) PodSandboxStats(ctx context.Context, r *runtimev1.PodSandboxStatsRequest) (*runtimev1.PodSandboxStatsResponse, error) {
	resp := &runtimev1.PodSandboxStatsResponse{}
	err := s.run(ctx, step{op: "PodSandboxStats", key: s.sandboxKey(r.GetPodSandboxId()), work: func() error {
		sb := s.findSandbox(r.GetPodSandboxId())
		if sb == nil {
			return notFound("sandbox", r.GetPodSandboxId())
		}
		resp.Stats = s.sandboxStats(sb)
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListPodSandboxStats tells what the ready sandboxes use.
func (s *Server) ListPodSandboxStats(ctx context.Context, r *runtimev1.ListPodSandboxStatsRequest) (*runtimev1.ListPodSandboxStatsResponse, error) {
	filter := &runtimev1.PodSandboxFilter{Id: r.GetFilter().GetId(), LabelSelector: r.GetFilter().GetLabelSelector()}
	resp := &runtimev1.ListPodSandboxStatsResponse{}
	err := s.run(ctx, step{op: "ListPodSandboxStats", work: func() error {
		for _, sb := range s.sandboxes {
			if sb.state == ready && sb.matches(filter) {
				resp.Stats = append(resp.Stats, s.sandboxStats(sb))
			}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Server) sandboxStats(sb *sandbox) *runtimev1.PodSandboxStats {
	stats := &runtimev1.PodSandboxStats{
		Attributes: &runtimev1.PodSandboxAttributes{
			Id: sb.id, Metadata: sb.config.GetMetadata(), Labels: sb.config.GetLabels(), Annotations: sb.config.GetAnnotations(),
		},
		Linux: &runtimev1.LinuxPodSandboxStats{Cpu: cpu(sb.createdAt), Memory: memory()},
	}
	for _, c := range s.containersOf(sb.id) {
		if c.state == running {
			stats.Linux.Containers = append(stats.Linux.Containers, c.stats())
		}
	}
	return stats
}

func (c *container) stats() *runtimev1.ContainerStats {
	return &runtimev1.ContainerStats{
		Attributes: &runtimev1.ContainerAttributes{
			Id: c.id, Metadata: c.config.GetMetadata(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		},
		Cpu: cpu(c.startedAt), Memory: memory(),
	}
}

// cpu is a hundredth of a core since start.
func cpu(start time.Time) *runtimev1.CpuUsage {
	now := time.Now()
	return &runtimev1.CpuUsage{
		Timestamp:            now.UnixNano(),
		UsageCoreNanoSeconds: &runtimev1.UInt64Value{Value: uint64(max(now.Sub(start), 0) / 100)},
		UsageNanoCores:       &runtimev1.UInt64Value{Value: 10_000_000},
	}
}

func memory() *runtimev1.MemoryUsage {
	return &runtimev1.MemoryUsage{
		Timestamp:       time.Now().UnixNano(),
		WorkingSetBytes: &runtimev1.UInt64Value{Value: 1 << 20},
		UsageBytes:      &runtimev1.UInt64Value{Value: 2 << 20},
		RssBytes:        &runtimev1.UInt64Value{Value: 1 << 20},
	}
}

// Serve answers on a unix socket until ctx ends.
func (s *Server) Serve(ctx context.Context, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replace socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listen for CRI calls: %w", err)
	}
	server := grpc.NewServer()
	runtimev1.RegisterRuntimeServiceServer(server, s)
	runtimev1.RegisterImageServiceServer(server, s)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve CRI calls: %w", err)
	}
	return nil
}
