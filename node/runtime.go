package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
	"nodelet/cri/embedded"
	"nodelet/internal/control"
	"nodelet/internal/metrics"
)

// containerRuntime is the way to the containers, embedded or foreign.
type containerRuntime struct {
	*cri.Client
	server *embedded.Server // nil for a foreign one
	// sandboxSeccomp is the file with the profile of sandboxes; empty for the runtime's default.
	sandboxSeccomp string
}

// startRuntime starts the embedded containerd, or connects to the runtime that
// was named, which may come up later.
func startRuntime(ctx context.Context, c *Config, log *slog.Logger, m *metrics.Runtime) (*containerRuntime, error) {
	if c.RuntimeEndpoint != "" {
		client, err := cri.Dial(c.RuntimeEndpoint, cri.Deps{Observe: m.Observe, Timeout: c.Kubelet.RuntimeRequestTimeout})
		if err != nil {
			return nil, err
		}
		return &containerRuntime{Client: client, sandboxSeccomp: c.foreignSeccomp(log)}, nil
	}
	server, err := embedded.Start(ctx, embedded.Config{
		Root: c.Layout.ContainerdRoot(), State: c.Layout.ContainerdState(),
		CNIConfDir: c.cniConf(), CNIBinDirs: []string{c.cniBin(), foreignCNIBin},
		Shim: c.BinDir + "/containerd-shim-runc-v2", RegistryDirs: c.RegistryConfigDir,
		SystemdCgroup: c.Kubelet.CgroupDriver == driverSystemd,
	}, embedded.Deps{Log: log, Observe: m.Observe, Timeout: c.Kubelet.RuntimeRequestTimeout})
	if err != nil {
		return nil, fmt.Errorf("start the embedded containerd: %w", err)
	}
	return &containerRuntime{Client: server.Runtime(), server: server, sandboxSeccomp: server.SandboxSeccomp()}, nil
}

// run ends with ctx, or when the runtime fails for good.
func (r *containerRuntime) run(ctx context.Context) error {
	if r.server != nil {
		return r.server.Run(ctx)
	}
	<-ctx.Done()
	return r.Close()
}

func (r *containerRuntime) importImages(ctx context.Context, archive io.Reader) ([]string, error) {
	if r.server != nil {
		return r.server.ImportImages(ctx, archive)
	}
	return embedded.Import(ctx, r.Endpoint(), archive)
}

func (r *containerRuntime) listImages(ctx context.Context) ([]control.Image, error) {
	resp, err := r.ListImages(ctx, &runtimev1.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	var out []control.Image
	for _, i := range resp.GetImages() {
		names := i.GetRepoTags()
		if len(names) == 0 {
			names = i.GetRepoDigests()
		}
		out = append(out, control.Image{Names: names, ID: i.GetId(), Bytes: i.GetSize()})
	}
	return out, nil
}

var errNoRuntime = errors.New("the container runtime is not up yet, or this daemon runs without the agent")
