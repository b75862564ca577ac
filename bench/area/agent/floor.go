package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/bench/area"
	"nodelet/bench/stack"
	"nodelet/cri"
)

// floor measures the least that a pod can take: the runtime's three calls and
// nothing else, with the same containerd and network plugin, but no agent and no
// API server.
func floor(ctx context.Context, n *area.Node, t area.Turn) error {
	s := stack.New(n)
	defer s.Stop()
	s.Cgroups()
	if _, err := s.Containerd(ctx); err != nil {
		return err
	}
	rt, err := cri.Dial(stack.RuntimeEndpoint(), cri.Deps{})
	if err != nil {
		return err
	}
	singles, batch := 12, 30
	if t.Quick {
		singles, batch = 3, 5
	}
	for i := range singles {
		took, id, err := rawPod(ctx, n, rt, fmt.Sprintf("one-%d", i))
		if err != nil {
			return err
		}
		if err := removeRaw(ctx, rt, id); err != nil {
			return err
		}
		if i > 0 { // the first one warms everything up
			n.Add(oneP50, raw, ms(took))
			n.Add(oneP99, raw, ms(took))
		}
	}
	n.Note("%d pods at once", batch)
	begin := time.Now()
	if err := parallel(batch, func(i int) error {
		_, _, err := rawPod(ctx, n, rt, fmt.Sprintf("many-%d", i))
		return err
	}); err != nil {
		return err
	}
	n.Add(sized(atOnce, 30), raw, float64(batch)/time.Since(begin).Seconds())
	return nil
}

// hands is how many pods are made beside one another.
const hands = 8

func parallel(count int, do func(int) error) error {
	jobs, errs := make(chan int, count), make([]error, hands)
	for i := range count {
		jobs <- i
	}
	close(jobs)
	var wg sync.WaitGroup
	for h := range hands {
		wg.Go(func() {
			for i := range jobs {
				if err := do(i); err != nil {
					errs[h] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// rawPod starts one pod by the calls of the CRI.
func rawPod(ctx context.Context, n *area.Node, rt *cri.Client, name string) (time.Duration, string, error) {
	sandbox := &runtimev1.PodSandboxConfig{
		Metadata: &runtimev1.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name}, Hostname: name,
		LogDirectory: filepath.Join(n.Dir, "floor-logs", name),
		Linux:        &runtimev1.LinuxPodSandboxConfig{CgroupParent: n.Cgroup},
	}
	begin := time.Now()
	pod, err := rt.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		return 0, "", fmt.Errorf("run sandbox: %w", err)
	}
	id := pod.GetPodSandboxId()
	made, err := rt.CreateContainer(ctx, &runtimev1.CreateContainerRequest{
		PodSandboxId: id, SandboxConfig: sandbox,
		Config: &runtimev1.ContainerConfig{
			Metadata: &runtimev1.ContainerMetadata{Name: "main"}, Image: &runtimev1.ImageSpec{Image: stack.HelloImage},
			LogPath: "main.log", Linux: &runtimev1.LinuxContainerConfig{},
		},
	})
	if err != nil {
		return 0, "", fmt.Errorf("create container: %w", err)
	}
	if _, err := rt.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: made.GetContainerId()}); err != nil {
		return 0, "", fmt.Errorf("start container: %w", err)
	}
	return time.Since(begin), id, nil
}

func removeRaw(ctx context.Context, rt *cri.Client, id string) error {
	_, stopErr := rt.StopPodSandbox(ctx, &runtimev1.StopPodSandboxRequest{PodSandboxId: id})
	_, removeErr := rt.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: id})
	return errors.Join(stopErr, removeErr)
}
