package critest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandbox is a pod's sandbox. It is created ready, and once not ready stays so.
type sandbox struct {
	id        string
	config    *runtimev1.PodSandboxConfig
	handler   string
	state     runtimev1.PodSandboxState
	createdAt time.Time
	ip        string // empty on the host's network, and after the sandbox was stopped
	// announced is what the pod as a whole was last said to have; nil: nothing was said.
	announced *runtimev1.LinuxContainerResources
}

// RunPodSandbox makes a sandbox and starts it.
func (s *Server) RunPodSandbox(ctx context.Context, r *runtimev1.RunPodSandboxRequest) (*runtimev1.RunPodSandboxResponse, error) {
	meta := r.GetConfig().GetMetadata()
	if meta == nil {
		return nil, unknown("sandbox config must include metadata")
	}
	var id string
	err := s.run(ctx, step{
		op: "RunPodSandbox", key: podKey(meta),
		begin: func() (err error) {
			id, err = s.reserve("sandbox", sandboxName(meta))
			return err
		},
		work:  func() error { s.addSandbox(id, r); return nil },
		abort: func() { s.release(id) },
	})
	if err != nil {
		return nil, err
	}
	return &runtimev1.RunPodSandboxResponse{PodSandboxId: id}, nil
}

func (s *Server) addSandbox(id string, r *runtimev1.RunPodSandboxRequest) {
	for _, other := range s.sandboxes {
		if other.state == ready && other.config.GetMetadata().GetUid() == r.GetConfig().GetMetadata().GetUid() {
			s.incident("a second ready sandbox for %s", podKey(other.config.GetMetadata()))
		}
	}
	sb := &sandbox{
		id: id, config: r.GetConfig(), handler: r.GetRuntimeHandler(), state: ready,
		createdAt: time.Now(),
	}
	if sb.config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() != runtimev1.NamespaceMode_NODE {
		sb.ip = s.nextIP.String()
		s.nextIP = s.nextIP.Next()
	}
	s.sandboxes[id] = sb
	s.emit(id, sb, runtimev1.ContainerEventType_CONTAINER_CREATED_EVENT)
	s.emit(id, sb, runtimev1.ContainerEventType_CONTAINER_STARTED_EVENT)
}

const ready = runtimev1.PodSandboxState_SANDBOX_READY

// StopPodSandbox kills the sandbox's containers without grace and takes its network away. An
// unknown sandbox is a stopped one.
func (s *Server) StopPodSandbox(ctx context.Context, r *runtimev1.StopPodSandboxRequest) (*runtimev1.StopPodSandboxResponse, error) {
	err := s.run(ctx, step{op: "StopPodSandbox", key: s.sandboxKey(r.GetPodSandboxId()), work: func() error {
		if sb := s.findSandbox(r.GetPodSandboxId()); sb != nil {
			s.stopSandbox(sb)
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return &runtimev1.StopPodSandboxResponse{}, nil
}

func (s *Server) stopSandbox(sb *sandbox) {
	for _, c := range s.containersOf(sb.id) {
		if c.state == running {
			if c.ending == nil {
				s.incident("%s killed without grace by stopping its sandbox", c.key())
			}
			s.exit(c, sigkilled, "Error")
		}
	}
	s.failSandbox(sb)
	sb.ip = ""
}

// failSandbox makes sb not ready, as when its pause process dies.
func (s *Server) failSandbox(sb *sandbox) {
	if sb.state != ready {
		return
	}
	sb.state = runtimev1.PodSandboxState_SANDBOX_NOTREADY
	s.emit(sb.id, sb, runtimev1.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

// RemovePodSandbox removes the sandbox with all in it. An unknown sandbox is a removed one.
func (s *Server) RemovePodSandbox(ctx context.Context, r *runtimev1.RemovePodSandboxRequest) (*runtimev1.RemovePodSandboxResponse, error) {
	err := s.run(ctx, step{op: "RemovePodSandbox", key: s.sandboxKey(r.GetPodSandboxId()), work: func() error {
		sb := s.findSandbox(r.GetPodSandboxId())
		if sb == nil {
			return nil
		}
		s.stopSandbox(sb)
		for _, c := range s.containersOf(sb.id) {
			s.removeContainer(c)
		}
		s.emit(sb.id, sb, runtimev1.ContainerEventType_CONTAINER_DELETED_EVENT)
		delete(s.sandboxes, sb.id)
		s.release(sb.id)
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return &runtimev1.RemovePodSandboxResponse{}, nil
}

// PodSandboxStatus tells the state of one sandbox.
func (s *Server) PodSandboxStatus(ctx context.Context, r *runtimev1.PodSandboxStatusRequest) (*runtimev1.PodSandboxStatusResponse, error) {
	var resp *runtimev1.PodSandboxStatusResponse
	err := s.run(ctx, step{op: "PodSandboxStatus", key: s.sandboxKey(r.GetPodSandboxId()), work: func() error {
		sb := s.findSandbox(r.GetPodSandboxId())
		if sb == nil {
			return notFound("sandbox", r.GetPodSandboxId())
		}
		resp = &runtimev1.PodSandboxStatusResponse{Status: sb.status(), Timestamp: time.Now().UnixNano()}
		for _, c := range s.containersOf(sb.id) {
			resp.ContainersStatuses = append(resp.ContainersStatuses, c.status())
		}
		return nil
	}})
	return resp, err
}

// ListPodSandbox tells the sandboxes that match the filter, oldest first.
func (s *Server) ListPodSandbox(ctx context.Context, r *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
	resp := &runtimev1.ListPodSandboxResponse{}
	err := s.run(ctx, step{op: "ListPodSandbox", work: func() error {
		for _, sb := range byAge(s.sandboxes, func(sb *sandbox) (time.Time, string) { return sb.createdAt, sb.id }) {
			if sb.matches(r.GetFilter()) {
				resp.Items = append(resp.Items, sb.item())
			}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// UpdatePodSandboxResources keeps what is said of a sandbox that is there.
func (s *Server) UpdatePodSandboxResources(ctx context.Context, r *runtimev1.UpdatePodSandboxResourcesRequest) (*runtimev1.UpdatePodSandboxResourcesResponse, error) {
	err := s.run(ctx, step{op: "UpdatePodSandboxResources", key: s.sandboxKey(r.GetPodSandboxId()), work: func() error {
		sb := s.findSandbox(r.GetPodSandboxId())
		if sb == nil {
			return notFound("sandbox", r.GetPodSandboxId())
		}
		sb.announced = r.GetResources()
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return &runtimev1.UpdatePodSandboxResourcesResponse{}, nil
}

func (sb *sandbox) matches(f *runtimev1.PodSandboxFilter) bool {
	return (f.GetId() == "" || f.GetId() == sb.id) &&
		(f.GetState() == nil || f.GetState().GetState() == sb.state) &&
		labelled(sb.config.GetLabels(), f.GetLabelSelector())
}

func (sb *sandbox) item() *runtimev1.PodSandbox {
	return &runtimev1.PodSandbox{
		Id: sb.id, Metadata: sb.config.GetMetadata(), State: sb.state, CreatedAt: sb.createdAt.UnixNano(),
		Labels: sb.config.GetLabels(), Annotations: sb.config.GetAnnotations(), RuntimeHandler: sb.handler,
	}
}

func (sb *sandbox) status() *runtimev1.PodSandboxStatus {
	return &runtimev1.PodSandboxStatus{
		Id: sb.id, Metadata: sb.config.GetMetadata(), State: sb.state, CreatedAt: sb.createdAt.UnixNano(),
		Network: &runtimev1.PodSandboxNetworkStatus{Ip: sb.ip},
		Linux: &runtimev1.LinuxPodSandboxStatus{Namespaces: &runtimev1.Namespace{
			Options: sb.config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
		Labels: sb.config.GetLabels(), Annotations: sb.config.GetAnnotations(), RuntimeHandler: sb.handler,
	}
}

func labelled(labels, selector map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// byAge sorts objects oldest first.
func byAge[T any](objects map[string]*T, age func(*T) (time.Time, string)) []*T {
	return slices.SortedFunc(maps.Values(objects), func(a, b *T) int {
		at, aid := age(a)
		bt, bid := age(b)
		return cmp.Or(at.Compare(bt), cmp.Compare(aid, bid))
	})
}
