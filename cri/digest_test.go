package cri_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
	"nodelet/cri/critest"
)

// shuffled lists 100 pods, in another order each time, as containerd does.
type shuffled struct {
	runtimev1.UnimplementedRuntimeServiceServer
	containers []*runtimev1.Container
	sandboxes  []*runtimev1.PodSandbox
}

func newShuffled() *shuffled {
	s := &shuffled{}
	for i := range 100 {
		id := fmt.Sprintf("%064d", i)
		labels := map[string]string{}
		for j := range 10 {
			labels[fmt.Sprintf("io.kubernetes.example/label-%d", j)] = fmt.Sprintf("value-%d-%d", i, j)
		}
		s.containers = append(s.containers, &runtimev1.Container{
			Id: id, PodSandboxId: id, Labels: labels, Annotations: labels, State: runtimev1.ContainerState_CONTAINER_RUNNING,
			Metadata: &runtimev1.ContainerMetadata{Name: "c"}, Image: &runtimev1.ImageSpec{Image: "img"}, CreatedAt: int64(i),
		})
		s.sandboxes = append(s.sandboxes, &runtimev1.PodSandbox{
			Id: id, Labels: labels, Annotations: labels, Metadata: &runtimev1.PodSandboxMetadata{Name: "p", Uid: id}, CreatedAt: int64(i),
		})
	}
	return s
}

func (s *shuffled) ListContainers(context.Context, *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error) {
	rand.Shuffle(len(s.containers), func(i, j int) { s.containers[i], s.containers[j] = s.containers[j], s.containers[i] })
	return &runtimev1.ListContainersResponse{Containers: s.containers}, nil
}

func (s *shuffled) ListPodSandbox(context.Context, *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
	rand.Shuffle(len(s.sandboxes), func(i, j int) { s.sandboxes[i], s.sandboxes[j] = s.sandboxes[j], s.sandboxes[i] })
	return &runtimev1.ListPodSandboxResponse{Items: s.sandboxes}, nil
}

func (s *shuffled) serve(t testing.TB) *cri.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cri.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	runtimev1.RegisterRuntimeServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := cri.Dial(path, cri.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// The digest is that of what there is, in whatever order it comes, and of nothing less.
func TestDigest(t *testing.T) {
	s := newShuffled()
	client := s.serve(t)
	digest := func() uint64 {
		t.Helper()
		d, err := client.Digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	seen := map[uint64]string{digest(): "at first"}
	for range 5 {
		if seen[digest()] == "" {
			t.Fatal("the digest differs although nothing changed")
		}
	}
	c, p := s.containers[7], s.sandboxes[3]
	for _, change := range []struct {
		what string
		do   func()
	}{
		{"state of a container", func() { c.State = runtimev1.ContainerState_CONTAINER_EXITED }},
		{"state of a sandbox", func() { p.State = runtimev1.PodSandboxState_SANDBOX_NOTREADY }},
		{"attempt", func() { c.Metadata.Attempt++ }},
		{"two containers change their states", func() {
			c.State, s.containers[8].State = s.containers[8].State, c.State
		}},
		{"value of a label", func() { c.Labels["io.kubernetes.example/label-1"] = "another" }},
		{"no such container", func() { s.containers = s.containers[1:] }},
		{"no such sandbox", func() { s.sandboxes = s.sandboxes[1:] }},
		{"a container twice", func() { s.containers = append(s.containers, s.containers[0]) }},
		{"nothing", func() { s.containers, s.sandboxes = nil, nil }},
	} {
		change.do()
		d := digest()
		if before := seen[d]; before != "" {
			t.Errorf("%s: the digest is that of %q", change.what, before)
		}
		seen[d] = change.what
	}
}

func TestNoDigestInProcess(t *testing.T) {
	server := critest.New(critest.Config{FaultRate: -1})
	defer server.Close()
	if _, err := server.Runtime(cri.Deps{}).Digest(t.Context()); !errors.Is(err, cri.ErrUnimplemented) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkLook compares a digest of 100 pods with their lists; the server's part is in both.
func BenchmarkLook(b *testing.B) {
	client := newShuffled().serve(b)
	b.Run("digest", func(b *testing.B) {
		for b.Loop() {
			if _, err := client.Digest(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("lists", func(b *testing.B) {
		for b.Loop() {
			_, err := client.ListContainers(b.Context(), &runtimev1.ListContainersRequest{})
			if err == nil {
				_, err = client.ListPodSandbox(b.Context(), &runtimev1.ListPodSandboxRequest{})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}
