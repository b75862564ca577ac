package agent

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
	"nodelet/internal/model"
)

// list lists sandboxes and containers with these labels, by pod. It knows
// nothing of addresses, times and exit codes.
func (o *observer) list(ctx context.Context, labels map[string]string) (map[model.UID]*model.PodRuntime, error) {
	sandboxes, err := o.runtime.ListPodSandbox(ctx, &runtimev1.ListPodSandboxRequest{
		Filter: &runtimev1.PodSandboxFilter{LabelSelector: labels},
	})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	containers, err := o.runtime.ListContainers(ctx, &runtimev1.ListContainersRequest{
		Filter: &runtimev1.ContainerFilter{LabelSelector: labels},
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	pods := map[model.UID]*model.PodRuntime{}
	pod := func(labels map[string]string) *model.PodRuntime {
		uid := model.UID(labels[podplan.LabelPodUID])
		if uid == "" {
			return nil // somebody else's
		}
		if pods[uid] == nil {
			pods[uid] = &model.PodRuntime{UID: uid, Pod: model.Key{
				Namespace: labels[podplan.LabelPodNamespace], Name: labels[podplan.LabelPodName],
			}}
		}
		return pods[uid]
	}
	for _, s := range sandboxes.GetItems() {
		if p := pod(s.GetLabels()); p != nil {
			p.Sandboxes = append(p.Sandboxes, model.Sandbox{
				ID: s.GetId(), Attempt: s.GetMetadata().GetAttempt(), Created: moment(s.GetCreatedAt()),
				Ready: s.GetState() == runtimev1.PodSandboxState_SANDBOX_READY,
			})
		}
	}
	for _, c := range containers.GetContainers() {
		if p := pod(c.GetLabels()); p != nil {
			p.Containers = append(p.Containers, model.Container{
				ID: c.GetId(), Name: c.GetLabels()[podplan.LabelContainerName], SandboxID: c.GetPodSandboxId(),
				Attempt: c.GetMetadata().GetAttempt(), State: stateOf(c.GetState()), Created: moment(c.GetCreatedAt()),
			})
		}
	}
	for _, p := range pods {
		order(p)
	}
	return pods, nil
}

// order sorts what belongs to a pod, newest first.
func order(p *model.PodRuntime) {
	slices.SortStableFunc(p.Sandboxes, func(a, b model.Sandbox) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	slices.SortStableFunc(p.Containers, func(a, b model.Container) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Attempt, a.Attempt), b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
}

func sandboxOf(s *runtimev1.PodSandboxStatus) model.Sandbox {
	out := model.Sandbox{
		ID: s.GetId(), Attempt: s.GetMetadata().GetAttempt(), Created: moment(s.GetCreatedAt()),
		Ready:       s.GetState() == runtimev1.PodSandboxState_SANDBOX_READY,
		HostNetwork: s.GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtimev1.NamespaceMode_NODE,
		Handler:     s.GetRuntimeHandler(), Annotations: s.GetAnnotations(),
	}
	if users := s.GetLinux().GetNamespaces().GetOptions().GetUsernsOptions(); users.GetMode() == runtimev1.NamespaceMode_POD && len(users.GetUids()) > 0 {
		out.UserNS = users.GetUids()[0].GetHostId()
	}
	add := func(text string) {
		if ip, err := netip.ParseAddr(text); err == nil {
			out.IPs = append(out.IPs, ip.Unmap())
		}
	}
	if out.HostNetwork {
		return out
	}
	add(s.GetNetwork().GetIp())
	for _, more := range s.GetNetwork().GetAdditionalIps() {
		add(more.GetIp())
	}
	return out
}

func containerOf(s *runtimev1.ContainerStatus, sandbox string) model.Container {
	image := s.GetImage().GetUserSpecifiedImage()
	if image == "" {
		image = s.GetImage().GetImage()
	}
	return model.Container{
		ID: s.GetId(), Name: s.GetLabels()[podplan.LabelContainerName], SandboxID: sandbox,
		Attempt: s.GetMetadata().GetAttempt(), State: stateOf(s.GetState()),
		Created: moment(s.GetCreatedAt()), Started: moment(s.GetStartedAt()), Finished: moment(s.GetFinishedAt()),
		ExitCode: s.GetExitCode(), Reason: s.GetReason(), Message: s.GetMessage(),
		Image: image, ImageRef: s.GetImageRef(), LogPath: s.GetLogPath(),
		Annotations: s.GetAnnotations(), Labels: s.GetLabels(),
		Resources: resourcesOf(s.GetResources().GetLinux()),
		User:      userOf(s.GetUser().GetLinux()), StopSignal: signalName(s.GetStopSignal()),
	}
}

func userOf(u *runtimev1.LinuxContainerUser) *model.User {
	if u == nil {
		return nil
	}
	return &model.User{UID: u.GetUid(), GID: u.GetGid(), Groups: u.GetSupplementalGroups()}
}

// signalName is a signal as the API writes it: SIGNAL_SIGRTMINPLUS1 is SIGRTMIN+1.
func signalName(s runtimev1.Signal) string {
	if s == runtimev1.Signal_SIGNAL_RUNTIME_DEFAULT {
		return ""
	}
	return strings.NewReplacer("SIGNAL_", "", "PLUS", "+", "MINUS", "-").Replace(s.String())
}

func resourcesOf(r *runtimev1.LinuxContainerResources) *model.Resources {
	if r == nil {
		return nil
	}
	return &model.Resources{
		CPUShares: r.GetCpuShares(), CPUQuota: max(r.GetCpuQuota(), 0), CPUPeriod: r.GetCpuPeriod(),
		MemoryLimit: max(r.GetMemoryLimitInBytes(), 0),
	}
}

func stateOf(s runtimev1.ContainerState) model.ContainerState {
	switch s {
	case runtimev1.ContainerState_CONTAINER_CREATED:
		return model.ContainerCreated
	case runtimev1.ContainerState_CONTAINER_RUNNING:
		return model.ContainerRunning
	case runtimev1.ContainerState_CONTAINER_EXITED:
		return model.ContainerExited
	}
	return model.ContainerUnknown
}

// moment turns CRI's nanoseconds, 0 for never, into a time.
func moment(nanos int64) time.Time {
	if nanos <= 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}

// same ignores when it was observed.
func same(a, b *model.PodRuntime) bool {
	x, y := *a, *b
	x.Observed, y.Observed = time.Time{}, time.Time{}
	return reflect.DeepEqual(x, y)
}
