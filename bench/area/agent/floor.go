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
	m := &turn{Turn: t, node: n, stack: s}
	s.Cgroups()
	if _, err := s.Containerd(ctx); err != nil {
		return err
	}
	rt, err := cri.Dial(stack.RuntimeEndpoint(), cri.Deps{})
	if err != nil {
		return err
	}
	singles, crowds := 12, []int{30, 100}
	switch {
	case t.Size != 0:
		singles, crowds = 1, []int{t.Size, t.Size, t.Size}
	case t.Quick:
		singles, crowds = 3, []int{30}
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
	if err := bundled(ctx, n, singles); err != nil {
		return err
	}
	for _, size := range crowds {
		if err := m.rawCrowd(ctx, rt, size); err != nil {
			return err
		}
	}
	return nil
}

// rawCrowd starts so many pods at once, and removes them.
func (m *turn) rawCrowd(ctx context.Context, rt *cri.Client, size int) error {
	batch := size
	if m.Quick {
		batch = 5
	}
	m.node.Note("%d pods at once", batch)
	ids := make([]string, batch)
	var took time.Duration
	err := m.observed(ctx, sized("%d-at-once", size), profiledFor, func() error {
		begin := time.Now()
		defer func() { took = time.Since(begin) }()
		return parallel(batch, func(i int) (err error) {
			_, ids[i], err = rawPod(ctx, m.node, rt, fmt.Sprintf("many-%d", i))
			return err
		})
	})
	if err != nil {
		return err
	}
	m.node.Add(sized(atOnce, size), raw, float64(batch)/took.Seconds())
	return parallel(batch, func(i int) error { return removeRaw(ctx, rt, ids[i]) })
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
