package node

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
	"nodelet/cri"
	"nodelet/cri/critest"
)

// foreign is a runtime of its own with two pods of ours, one over, and a pod of another kubelet.
func foreign(t *testing.T) (s *critest.Server, endpoint string) {
	t.Helper()
	s = critest.New(critest.Config{FaultRate: -1, Images: []string{"i"}})
	t.Cleanup(s.Close)
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, socket) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"runs", "over", "theirs"} {
		config := &runtimev1.PodSandboxConfig{
			Metadata: &runtimev1.PodSandboxMetadata{Name: name, Namespace: "ns", Uid: name}, Labels: map[string]string{podplan.LabelPodUID: name},
			Annotations: map[string]string{podplan.AnnotationOurs: "true"},
		}
		if name == "theirs" {
			config.Annotations = nil
		}
		sandbox, err := s.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: config})
		if err != nil {
			t.Fatal(err)
		}
		if name == "over" {
			_, err = s.StopPodSandbox(t.Context(), &runtimev1.StopPodSandboxRequest{PodSandboxId: sandbox.GetPodSandboxId()})
		} else {
			_, err = s.CreateContainer(t.Context(), &runtimev1.CreateContainerRequest{
				PodSandboxId: sandbox.GetPodSandboxId(), SandboxConfig: config,
				Config: &runtimev1.ContainerConfig{Metadata: &runtimev1.ContainerMetadata{Name: "c"}, Image: &runtimev1.ImageSpec{Image: "i"}},
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	client, err := cri.Dial("unix://"+socket, cri.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if err := client.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, "unix://" + socket
}

func withRuntime(t *testing.T, endpoint string) *Config {
	t.Helper()
	c := Defaults()
	c.RuntimeEndpoint, c.CgroupRoot = endpoint, "/nodelet-test-none"
	c.Layout = Layout{Data: t.TempDir(), Run: t.TempDir()}
	return &c
}

// The pods in a runtime of its own go, whatever state they are in; what else it has stays.
func TestRemoveForeignPods(t *testing.T) {
	s, endpoint := foreign(t)
	c := withRuntime(t, endpoint)
	left, err := c.foreignResidue(t.Context())
	if err != nil || len(left) != 2 || !strings.Contains(strings.Join(left, " "), "ns/over") {
		t.Fatalf("residue: %q, %v", left, err)
	}
	s.Inject(critest.Fault{Op: "RemovePodSandbox", Kind: critest.Refuse, Err: status.Error(codes.Unknown, "device or resource busy")})
	if err := c.removeForeignPods(t.Context()); err == nil || !strings.Contains(err.Error(), "busy") || !strings.Contains(err.Error(), "ns/") {
		t.Errorf("a sandbox that cannot be removed: %v", err)
	}
	if err := c.removeForeignPods(t.Context()); err != nil { // the second reset
		t.Error(err)
	}
	if left, err := c.foreignResidue(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("residue: %q, %v", left, err)
	}
	if all := s.Sandboxes(); len(all) != 1 || all[0].GetMetadata().GetName() != "theirs" || len(s.Containers()) != 1 {
		t.Errorf("left in the runtime:\n%s", s)
	}
}

// A runtime that is gone holds up no reset: nothing of ours runs. One that refuses does.
func TestForeignRuntimeIsGone(t *testing.T) {
	c := withRuntime(t, "unix://"+filepath.Join(t.TempDir(), "nobody"))
	if err := c.removeForeignPods(t.Context()); err != nil {
		t.Error(err)
	}
	s, endpoint := foreign(t)
	c.RuntimeEndpoint = endpoint
	s.Inject(critest.Fault{Op: "ListPodSandbox", Kind: critest.Refuse, Err: status.Error(codes.ResourceExhausted, "too much")})
	if err := c.removeForeignPods(t.Context()); err == nil || errors.Is(err, cri.ErrUnavailable) || !strings.Contains(err.Error(), endpoint) {
		t.Errorf("a runtime that refuses: %v", err)
	}
	c.Components = []Component{Proxy}
	if left, err := c.foreignResidue(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("without the agent: %q, %v", left, err)
	}
}

// A daemon that was told of another runtime has left its pods in the one before.
func TestPastRuntimesAreKept(t *testing.T) {
	c := withRuntime(t, "unix:///one")
	for _, endpoint := range []string{"unix:///one", "unix:///two", "", "unix:///two", ""} {
		c.RuntimeEndpoint = endpoint
		if err := saveConfig(*c); err != nil {
			t.Fatal(err)
		}
	}
	got, err := LoadConfig(c.Layout)
	if used := got.runtimesUsed(); err != nil || !slices.Equal(used, []string{"unix:///one", "unix:///two"}) {
		t.Errorf("%q, %v", used, err)
	}
}
