package cri_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
	"nodelet/cri/critest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDialRefusesWhatIsNoSocket(t *testing.T) {
	for _, endpoint := range []string{"", "tcp://127.0.0.1:1", "run/containerd.sock", "unix://relative"} {
		if _, err := cri.Dial(endpoint, cri.Deps{}); err == nil || !strings.Contains(err.Error(), "unix:///run/") {
			t.Errorf("%q: %v, want an error that shows a good endpoint", endpoint, err)
		}
	}
}

// TestRuntimeDownAndUp: a runtime may be absent at start and may restart at any time.
func TestRuntimeDownAndUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cri.sock")
	client, err := cri.Dial("unix://"+path, cri.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Version(t.Context(), &runtimev1.VersionRequest{})
	if !errors.Is(err, cri.ErrUnavailable) || !strings.Contains(err.Error(), "runtime at unix://"+path+" is not answering") {
		t.Errorf("while down: %v", err)
	}
	for range 2 {
		stop := serve(t, path)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := client.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		stop()
		if _, err := client.Version(t.Context(), &runtimev1.VersionRequest{}); !errors.Is(err, cri.ErrUnavailable) {
			t.Errorf("after its end: %v", err)
		}
	}
}

// serve runs an in-memory runtime on path until the returned function is called.
func serve(t *testing.T, path string) (stop func()) {
	t.Helper()
	server := critest.New(critest.Config{FaultRate: -1})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, path) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestWaitReadyTellsTheCause(t *testing.T) {
	client, err := cri.Dial(filepath.Join(t.TempDir(), "none.sock"), cri.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := client.WaitReady(ctx); !errors.Is(err, cri.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// probe is a runtime that looks at the calls' deadlines.
type probe struct {
	runtimev1.UnimplementedRuntimeServiceServer
	runtimev1.UnimplementedImageServiceServer
	left   time.Duration // to the deadline; 0: none
	answer error
	block  chan struct{}
}

func (p *probe) see(ctx context.Context) error {
	p.left = 0
	if deadline, ok := ctx.Deadline(); ok {
		p.left = time.Until(deadline)
	}
	if p.block != nil {
		<-p.block
	}
	return p.answer
}

func (p *probe) StopContainer(ctx context.Context, _ *runtimev1.StopContainerRequest) (*runtimev1.StopContainerResponse, error) {
	return &runtimev1.StopContainerResponse{}, p.see(ctx)
}

func (p *probe) ExecSync(ctx context.Context, _ *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error) {
	return &runtimev1.ExecSyncResponse{}, p.see(ctx)
}

func (p *probe) PullImage(ctx context.Context, _ *runtimev1.PullImageRequest) (*runtimev1.PullImageResponse, error) {
	return &runtimev1.PullImageResponse{}, p.see(ctx)
}

func (p *probe) Status(ctx context.Context, _ *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error) {
	return &runtimev1.StatusResponse{}, p.see(ctx)
}

func inProcess(p *probe, deps cri.Deps) *cri.Client {
	return cri.InProcess(cri.Server{Endpoint: "probe", Runtime: p, Image: p}, deps)
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &probe{}
		client := inProcess(p, cri.Deps{})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		tests := []struct {
			name string
			call func() error
			want time.Duration
		}{
			{"ordinary", func() error { _, err := client.Status(t.Context(), nil); return err }, 2 * time.Minute},
			{"the caller's is earlier", func() error { _, err := client.Status(short, nil); return err }, time.Second},
			{"stop adds the grace period", func() error {
				_, err := client.StopContainer(t.Context(), &runtimev1.StopContainerRequest{Timeout: 30})
				return err
			}, 2*time.Minute + 30*time.Second},
			{"exec adds its time-out", func() error {
				_, err := client.ExecSync(t.Context(), &runtimev1.ExecSyncRequest{Timeout: 5})
				return err
			}, 2*time.Minute + 5*time.Second},
			{"exec without time-out", func() error {
				_, err := client.ExecSync(t.Context(), &runtimev1.ExecSyncRequest{})
				return err
			}, 0},
			{"pull", func() error { _, err := client.PullImage(t.Context(), nil); return err }, 0},
		}
		for _, test := range tests {
			if err := test.call(); err != nil || p.left != test.want {
				t.Errorf("%s: %s left, %v; want %s", test.name, p.left, err, test.want)
			}
		}
	})
}

// TestStuckCallIsLeftBehind: the caller goes on even if an in-process runtime does not heed its context.
func TestStuckCallIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &probe{block: make(chan struct{})}
		defer close(p.block)
		start := time.Now()
		_, err := inProcess(p, cri.Deps{Timeout: time.Minute}).Status(t.Context(), nil)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		if want := "runtime at probe did not finish Status in time"; !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	})
}

func TestErrors(t *testing.T) {
	tests := []struct {
		answer error
		is     error
		text   string
	}{
		{status.Error(codes.Unavailable, "no such file"), cri.ErrUnavailable, "runtime at probe is not answering: Status: no such file"},
		{status.Error(codes.Unimplemented, "unknown"), cri.ErrUnimplemented, "runtime at probe does not implement Status"},
		{status.Error(codes.NotFound, "no such container"), cri.ErrNotFound, "Status: no such container"},
		{fmt.Errorf("wrapped: %w", status.Error(codes.NotFound, "gone")), cri.ErrNotFound, "Status: wrapped: rpc error: code = NotFound desc = gone"},
		{context.DeadlineExceeded, context.DeadlineExceeded, "runtime at probe did not finish Status in time: context deadline exceeded"},
		{status.Error(codes.Canceled, "bye"), context.Canceled, "Status: bye"},
	}
	for _, test := range tests {
		_, err := inProcess(&probe{answer: test.answer}, cri.Deps{}).Status(t.Context(), nil)
		if !errors.Is(err, test.is) || err.Error() != test.text {
			t.Errorf("%v became %q (is %v: %t), want %q", test.answer, err, test.is, errors.Is(err, test.is), test.text)
		}
	}
}

func TestNameReserved(t *testing.T) {
	const id = "4c0b867534ba1730436bd497b76aeabf5f53e2e47979bc0303b82c2ebf868889"
	tests := []struct {
		err      error
		id       string
		reserved bool
	}{
		{status.Error(codes.Unknown, `failed to reserve sandbox name "a_b_c_0": name "a_b_c_0" is reserved for "`+id+`"`), id, true},
		{status.Error(codes.Unknown, `failed to reserve container name "x"; check if another CreateContainer request is in progress: name "x" is reserved for "`+id+`"`), id, true},
		{status.Error(codes.Unknown, `creating pod sandbox with name "k8s_a": the pod name "k8s_a" is already in use by `+id+`. You have to remove that pod to be able to reuse that name`), id, true},
		{status.Error(codes.Unknown, "name is reserved"), "", true},
		{status.Error(codes.AlreadyExists, "it is there"), "", true},
		{status.Error(codes.Unknown, "no space left on device"), "", false},
	}
	for _, test := range tests {
		_, err := inProcess(&probe{answer: test.err}, cri.Deps{}).Status(t.Context(), nil)
		if got, reserved := cri.NameReserved(err); got != test.id || reserved != test.reserved {
			t.Errorf("%v: %q, %t", test.err, got, reserved)
		}
	}
	if _, reserved := cri.NameReserved(errors.New("name is reserved")); reserved {
		t.Error("an error that no runtime gave counts")
	}
}

func TestObserve(t *testing.T) {
	var seen []string
	observe := func(op string, _ time.Duration, err error) { seen = append(seen, fmt.Sprint(op, " ", err != nil)) }
	p := &probe{}
	client := inProcess(p, cri.Deps{Observe: observe})
	_, _ = client.Status(t.Context(), nil)
	p.answer = errors.New("broken")
	_, _ = client.Status(t.Context(), nil)
	_ = client.Events(t.Context(), nil)
	if got, want := fmt.Sprint(seen), "[Status false Status true GetContainerEvents true]"; got != want {
		t.Errorf("observed %s, want %s", got, want)
	}
}

// lateEvents is a runtime that, as containerd, sends without looking at the context.
type lateEvents struct {
	probe
	send   chan struct{}
	result chan error
}

func (l *lateEvents) GetContainerEvents(_ *runtimev1.GetEventsRequest, stream grpc.ServerStreamingServer[runtimev1.ContainerEventResponse]) error {
	var err error
	for range l.send {
		err = stream.Send(&runtimev1.ContainerEventResponse{})
		l.result <- err
	}
	return err
}

func TestNoEventAfterTheEnd(t *testing.T) {
	l := &lateEvents{send: make(chan struct{}), result: make(chan error)}
	client := cri.InProcess(cri.Server{Runtime: l, Image: l}, cri.Deps{})
	ctx, cancel := context.WithCancel(t.Context())
	var events atomic.Int32
	done := make(chan error, 1)
	go func() { done <- client.Events(ctx, func(*runtimev1.ContainerEventResponse) { events.Add(1) }) }()
	l.send <- struct{}{}
	if err := <-l.result; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("events ended with %v", err)
	}
	l.send <- struct{}{}
	if err := <-l.result; err == nil {
		t.Error("a late event was taken")
	}
	close(l.send)
	if got := events.Load(); got != 1 {
		t.Errorf("%d events, want 1", got)
	}
}

// bigList is a runtime with more containers than fit into gRPC's default message size.
type bigList struct{ probe }

func (*bigList) ListContainers(context.Context, *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error) {
	const containers, annotation = 8000, 1000
	resp := &runtimev1.ListContainersResponse{}
	for i := range containers {
		resp.Containers = append(resp.Containers, &runtimev1.Container{
			Id: fmt.Sprint(i), Annotations: map[string]string{"a": strings.Repeat("x", annotation)},
		})
	}
	return resp, nil
}

func TestBigMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cri.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxSendMsgSize(16 << 20))
	runtimev1.RegisterRuntimeServiceServer(server, &bigList{})
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	client, err := cri.Dial(path, cri.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if resp, err := client.ListContainers(t.Context(), &runtimev1.ListContainersRequest{}); err != nil || len(resp.GetContainers()) != 8000 {
		t.Errorf("%d containers, %v", len(resp.GetContainers()), err)
	}
}
