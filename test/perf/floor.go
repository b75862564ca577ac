package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
	"nodelet/cri/embedded"
)

const helloImage = "nodelet.local/hello:1"

// floor measures the least that a pod can take: the runtime's three calls and nothing else, with the same
// containerd and network plugin, but no agent and no API server. The cluster is down meanwhile.
func floor(ctx context.Context, c *cluster, n int, rep *report) (err error) {
	if err := c.nodelet(ctx, "down"); err != nil {
		return err
	}
	server, err := embedded.Start(ctx, embedded.Config{
		Root: filepath.Join(c.dir, "floor"), State: filepath.Join(c.run(), "floor"),
		CNIConfDir: filepath.Join(c.data(), "cni", "net.d"), CNIBinDirs: []string{c.bin},
		Shim: filepath.Join(c.bin, "containerd-shim-runc-v2"),
	}, embedded.Deps{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("start a runtime for the floor: %w", err)
	}
	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Run(running) }()
	defer func() {
		end()
		err = errors.Join(err, <-ended)
	}()
	archive, err := os.Open(filepath.Join(c.bin, "images", "hello.tar"))
	if err != nil {
		return err
	}
	defer archive.Close()
	if _, err := server.ImportImages(ctx, archive); err != nil {
		return err
	}
	for i := range n {
		took, err := rawPod(ctx, c, server.Runtime(), fmt.Sprintf("floor-%d", i))
		if err != nil {
			return err
		}
		if i > 0 { // the first one warms everything up
			rep.add("one pod, raw CRI calls: the floor", took)
		}
	}
	return nil
}

// rawPod starts one pod by the calls of the CRI, and removes it before it returns.
func rawPod(ctx context.Context, c *cluster, rt *cri.Client, name string) (time.Duration, error) {
	sandbox := &runtimev1.PodSandboxConfig{
		Metadata:     &runtimev1.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name},
		Hostname:     name,
		LogDirectory: filepath.Join(c.dir, "floor-logs", name),
		Linux:        &runtimev1.LinuxPodSandboxConfig{CgroupParent: c.cgroup},
	}
	begin := time.Now()
	pod, err := rt.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		return 0, fmt.Errorf("run sandbox: %w", err)
	}
	made, err := rt.CreateContainer(ctx, &runtimev1.CreateContainerRequest{
		PodSandboxId: pod.GetPodSandboxId(), SandboxConfig: sandbox,
		Config: &runtimev1.ContainerConfig{
			Metadata: &runtimev1.ContainerMetadata{Name: "hello"}, Image: &runtimev1.ImageSpec{Image: helloImage},
			LogPath: "hello.log", Linux: &runtimev1.LinuxContainerConfig{},
		},
	})
	if err == nil {
		_, err = rt.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: made.GetContainerId()})
	}
	took := time.Since(begin)
	if err != nil {
		err = fmt.Errorf("run container: %w", err)
	}
	_, stopErr := rt.StopPodSandbox(ctx, &runtimev1.StopPodSandboxRequest{PodSandboxId: pod.GetPodSandboxId()})
	_, removeErr := rt.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: pod.GetPodSandboxId()})
	return took, errors.Join(err, stopErr, removeErr)
}
