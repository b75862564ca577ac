package cri_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	eventservice "github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"nodelet/cri"
	"nodelet/cri/critest"
)

// containerd is its event service, which sends what it has and ends the stream.
type containerd struct {
	eventservice.UnimplementedEventsServer
	filters chan []string
	send    []*types.Envelope
}

func (s *containerd) Subscribe(req *eventservice.SubscribeRequest, out eventservice.Events_SubscribeServer) error {
	s.filters <- req.GetFilters()
	for _, e := range s.send {
		if err := out.Send(e); err != nil {
			return err
		}
	}
	return nil
}

func envelope(t *testing.T, namespace, topic string, event *eventsapi.TaskExit) *types.Envelope {
	t.Helper()
	value, err := proto.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return &types.Envelope{Namespace: namespace, Topic: topic, Event: &anypb.Any{TypeUrl: "containerd.events.TaskExit", Value: value}}
}

// listen serves what register adds on a socket, and gives a client of it.
func listen(t *testing.T, register func(*grpc.Server)) *cri.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "containerd.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	client, err := cri.Dial(path, cri.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// TestExits: containerd's own events give the ends of containers of pods, and of nothing else.
func TestExits(t *testing.T) {
	at := time.Unix(1_700_000_000, 5)
	stamp := timestamppb.New(at)
	runtime := &containerd{filters: make(chan []string, 1), send: []*types.Envelope{
		envelope(t, "k8s.io", "/tasks/exit", &eventsapi.TaskExit{ContainerID: "c", ID: "a command in it", ExitedAt: stamp}),
		envelope(t, "moby", "/tasks/exit", &eventsapi.TaskExit{ContainerID: "d", ID: "d", ExitedAt: stamp}),
		envelope(t, "k8s.io", "/tasks/delete", &eventsapi.TaskExit{ContainerID: "e", ID: "e", ExitedAt: stamp}),
		envelope(t, "k8s.io", "/tasks/exit", &eventsapi.TaskExit{ContainerID: "f", ID: "f"}),
		envelope(t, "k8s.io", "/tasks/exit", &eventsapi.TaskExit{ContainerID: "c", ID: "c", ExitStatus: 137, ExitedAt: stamp}),
	}}
	client := listen(t, func(s *grpc.Server) { eventservice.RegisterEventsServer(s, runtime) })
	var got []cri.Exit
	err := client.Exits(t.Context(), func(e cri.Exit) { got = append(got, e) })
	if !errors.Is(err, cri.ErrUnavailable) {
		t.Errorf("a stream that the runtime ends: %v", err)
	}
	if want := []cri.Exit{{ContainerID: "c", Code: 137, At: at}}; !slices.EqualFunc(got, want, func(a, b cri.Exit) bool {
		return a.At.Equal(b.At) && a.ContainerID == b.ContainerID && a.Code == b.Code && a.Unclear == b.Unclear
	}) {
		t.Errorf("got %+v", got)
	}
	if f := <-runtime.filters; !slices.Equal(f, []string{`namespace=="k8s.io",topic=="/tasks/exit"`}) {
		t.Errorf("asked for %q", f)
	}
}

// TestExitsOfOthers: a runtime that is not containerd, and what is not an event of it, are errors that say so.
func TestExitsOfOthers(t *testing.T) {
	client := listen(t, func(*grpc.Server) {})
	if err := client.Exits(t.Context(), nil); !errors.Is(err, cri.ErrUnimplemented) {
		t.Errorf("CRI only: %v", err)
	}
	if err := critest.New(critest.Config{FaultRate: -1}).Runtime(cri.Deps{}).Exits(t.Context(), nil); !errors.Is(err, cri.ErrUnimplemented) {
		t.Errorf("in this process: %v", err)
	}
	runtime := &containerd{filters: make(chan []string, 1), send: []*types.Envelope{{Namespace: "k8s.io", Topic: "/tasks/exit", Event: &anypb.Any{Value: []byte{1}}}}}
	client = listen(t, func(s *grpc.Server) { eventservice.RegisterEventsServer(s, runtime) })
	if err := client.Exits(t.Context(), nil); err == nil || errors.Is(err, cri.ErrUnavailable) {
		t.Errorf("nonsense: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.Exits(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}
