package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
	"nodelet/cri"
	"nodelet/internal/cgroup"
)

const (
	// parallelStops bounds the pods that are stopped side by side.
	parallelStops = 8
	// stopPodLimit is how long a runtime may take to kill a pod and to take its network down.
	stopPodLimit = time.Minute
)

// runtimesUsed are the endpoints of all runtimes of their own that the daemon ever made pods in.
func (c *Config) runtimesUsed() []string {
	if !c.Has(Agent) {
		return nil
	}
	all := slices.Clone(c.PastRuntimes)
	if c.RuntimeEndpoint != "" && !slices.Contains(all, c.RuntimeEndpoint) {
		all = append(all, c.RuntimeEndpoint)
	}
	return all
}

// removeForeignPods kills and removes the pods in runtimes that are not ours, and what those made for them.
func (c *Config) removeForeignPods(ctx context.Context) error {
	return c.foreignPods(ctx, func(client *cri.Client, pods []*runtimev1.PodSandbox) error {
		var stops errgroup.Group
		stops.SetLimit(parallelStops)
		for _, p := range pods {
			stops.Go(func() error {
				ctx, cancel := context.WithTimeout(ctx, stopPodLimit)
				defer cancel()
				_, err := client.StopPodSandbox(ctx, &runtimev1.StopPodSandboxRequest{PodSandboxId: p.GetId()})
				if err == nil {
					_, err = client.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: p.GetId()})
				}
				if err != nil && !errors.Is(err, cri.ErrNotFound) {
					return fmt.Errorf("remove %s: %w", sandboxName(p), err)
				}
				return nil
			})
		}
		return stops.Wait()
	})
}

// foreignResidue is what removeForeignPods would remove.
func (c *Config) foreignResidue(ctx context.Context) (left []string, err error) {
	err = c.foreignPods(ctx, func(_ *cri.Client, pods []*runtimev1.PodSandbox) error {
		for _, p := range pods {
			left = append(left, sandboxName(p))
		}
		return nil
	})
	return left, err
}

func sandboxName(p *runtimev1.PodSandbox) string {
	return fmt.Sprintf("sandbox %.12s (pod %s/%s)", p.GetId(), p.GetMetadata().GetNamespace(), p.GetMetadata().GetName())
}

// foreignPods does something with our pods in each runtime of its own. Those of another kubelet, which the
// runtime may serve since, lack our mark. A runtime that does not answer has nothing to do with us any more
// when no process is left in the pods' cgroups.
func (c *Config) foreignPods(ctx context.Context, do func(*cri.Client, []*runtimev1.PodSandbox) error) error {
	var errs []error
	for _, endpoint := range c.runtimesUsed() {
		if err := foreignPodsOf(ctx, endpoint, do); err != nil && (!errors.Is(err, cri.ErrUnavailable) || c.podsRun()) {
			errs = append(errs, fmt.Errorf("%w (start the runtime at %s, it has to end its pods)", err, endpoint))
		}
	}
	return errors.Join(errs...)
}

func foreignPodsOf(ctx context.Context, endpoint string, do func(*cri.Client, []*runtimev1.PodSandbox) error) error {
	client, err := cri.Dial(endpoint, cri.Deps{})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	listed, err := client.ListPodSandbox(ctx, &runtimev1.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	pods := slices.DeleteFunc(listed.GetItems(), func(p *runtimev1.PodSandbox) bool { return p.GetAnnotations()[podplan.AnnotationOurs] == "" })
	return do(client, pods)
}

// podsRun tells whether a process is left in the cgroup of any pod.
func (c *Config) podsRun() bool {
	for _, tree := range c.cgroupTrees(cgroup.Deps{Log: slog.New(slog.DiscardHandler)}) {
		for _, uid := range tree.Pods() {
			if pids, err := tree.Processes(uid); err != nil || len(pids) > 0 {
				return true
			}
		}
	}
	return false
}
