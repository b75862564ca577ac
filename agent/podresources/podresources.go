package podresources

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	api "k8s.io/kubelet/pkg/apis/podresources/v1"

	"nodelet/agent/dra/draplan"
	"nodelet/agent/exclusive/cpuplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// Deps are the seams of a Server.
type Deps struct {
	Store *store.Store
	// Devices are all healthy devices of plugins, by resource; CPUs those that containers can have to themselves.
	Devices func() map[string][]model.Device
	CPUs    func() cpuplan.Set
	// Asked counts calls, Failed those that failed; both may be nil.
	Asked, Failed func(method string)
}

// Server answers on a socket.
type Server struct {
	api.UnimplementedPodResourcesListerServer
	path string
	deps Deps
}

// New touches nothing; path is that of the socket.
func New(path string, deps Deps) *Server {
	if deps.Asked == nil {
		deps.Asked = func(string) {}
	}
	if deps.Failed == nil {
		deps.Failed = func(string) {}
	}
	return &Server{path: path, deps: deps}
}

// Run blocks until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o750); err != nil {
		return fmt.Errorf("make directory of the PodResources socket: %w", err)
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the PodResources socket of an earlier process: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", s.path)
	if err != nil {
		return fmt.Errorf("listen for PodResources: %w", err)
	}
	server := grpc.NewServer()
	api.RegisterPodResourcesListerServer(server, s)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve PodResources: %w", err)
	}
	return nil
}

// List gives all pods that have not ended, also those that have nothing to themselves.
func (s *Server) List(context.Context, *api.ListPodResourcesRequest) (*api.ListPodResourcesResponse, error) {
	s.deps.Asked("List")
	snap := s.deps.Store.Snapshot()
	out := &api.ListPodResourcesResponse{}
	for _, pod := range snap.Pods.All() {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			out.PodResources = append(out.PodResources, resources(snap, pod))
		}
	}
	slices.SortFunc(out.PodResources, func(a, b *api.PodResources) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// Get gives one pod; one that has ended is not found.
func (s *Server) Get(_ context.Context, q *api.GetPodResourcesRequest) (*api.GetPodResourcesResponse, error) {
	s.deps.Asked("Get")
	snap := s.deps.Store.Snapshot()
	for _, pod := range snap.Pods.All() {
		if pod.Name == q.GetPodName() && pod.Namespace == q.GetPodNamespace() && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			return &api.GetPodResourcesResponse{PodResources: resources(snap, pod)}, nil
		}
	}
	s.deps.Failed("Get")
	return nil, status.Errorf(codes.NotFound, "pod %s in namespace %s not found", q.GetPodName(), q.GetPodNamespace())
}

// GetAllocatableResources gives all there is to have.
func (s *Server) GetAllocatableResources(context.Context, *api.AllocatableResourcesRequest) (*api.AllocatableResourcesResponse, error) {
	s.deps.Asked("GetAllocatableResources")
	return &api.AllocatableResourcesResponse{Devices: devices(s.deps.Devices()), CpuIds: ids(s.deps.CPUs())}, nil
}

func resources(snap *store.Snapshot, pod *corev1.Pod) *api.PodResources {
	out := &api.PodResources{Name: pod.Name, Namespace: pod.Namespace}
	grant, _ := snap.Grants.Get(model.UID(pod.UID))
	prepared, _ := snap.Prepared.Get(model.UID(pod.UID))
	add := func(c *corev1.Container) {
		one := &api.ContainerResources{Name: c.Name, DynamicResources: dynamic(pod.Namespace, draplan.Claims(pod, c, prepared))}
		if grant != nil {
			g := grant.Containers[c.Name]
			one.Devices = devices(g.Devices)
			if set, err := cpuplan.Parse(g.CPUs); err == nil {
				one.CpuIds = ids(set)
			}
		}
		out.Containers = append(out.Containers, one)
	}
	for i := range pod.Spec.InitContainers {
		// What runs to its end holds nothing any more while the pod runs.
		if p := pod.Spec.InitContainers[i].RestartPolicy; p != nil && *p == corev1.ContainerRestartPolicyAlways {
			add(&pod.Spec.InitContainers[i])
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return out
}

// dynamic are the claims of a container, with their devices (KEP-3695).
func dynamic(namespace string, claims []model.PreparedClaim) (out []*api.DynamicResource) {
	for _, c := range claims {
		one := &api.DynamicResource{ClaimName: c.Name, ClaimNamespace: namespace}
		for _, d := range c.Devices {
			device := &api.ClaimResource{DriverName: d.Driver, PoolName: d.Pool, DeviceName: d.Device}
			if d.Share != "" {
				device.ShareId = &d.Share
			}
			for _, name := range d.CDI {
				device.CdiDevices = append(device.CdiDevices, &api.CDIDevice{Name: name})
			}
			one.ClaimResources = append(one.ClaimResources, device)
		}
		out = append(out, one)
	}
	return out
}

// devices are those of each resource, one entry for those that are near to the same nodes.
func devices(all map[string][]model.Device) (out []*api.ContainerDevices) {
	for _, resource := range slices.Sorted(maps.Keys(all)) {
		near := map[string]*api.ContainerDevices{}
		for _, d := range all[resource] {
			key := fmt.Sprint(d.NUMA)
			one := near[key]
			if one == nil {
				one = &api.ContainerDevices{ResourceName: resource}
				if len(d.NUMA) > 0 {
					one.Topology = &api.TopologyInfo{}
				}
				for _, n := range d.NUMA {
					one.Topology.Nodes = append(one.Topology.Nodes, &api.NUMANode{ID: n})
				}
				near[key] = one
				out = append(out, one)
			}
			one.DeviceIds = append(one.DeviceIds, d.ID)
		}
	}
	return out
}

func ids(s cpuplan.Set) (out []int64) {
	for _, cpu := range s {
		out = append(out, int64(cpu))
	}
	return out
}
