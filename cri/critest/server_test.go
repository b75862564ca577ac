package critest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"pgregory.net/rapid"

	"nodelet/cri"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const image = "test.local/app:1"

func podConfig(name string) *runtimev1.PodSandboxConfig {
	return &runtimev1.PodSandboxConfig{Metadata: &runtimev1.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name}}
}

func runPod(t *testing.T, r cri.Runtime, name string) string {
	t.Helper()
	resp, err := r.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: podConfig(name)})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetPodSandboxId()
}

func createRequest(sandbox, pod, name string) *runtimev1.CreateContainerRequest {
	return &runtimev1.CreateContainerRequest{
		PodSandboxId: sandbox, SandboxConfig: podConfig(pod),
		Config: &runtimev1.ContainerConfig{
			Metadata: &runtimev1.ContainerMetadata{Name: name}, Image: &runtimev1.ImageSpec{Image: image},
		},
	}
}

func startContainer(t *testing.T, r cri.Runtime, sandbox, pod, name string) string {
	t.Helper()
	resp, err := r.CreateContainer(t.Context(), createRequest(sandbox, pod, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.StartContainer(t.Context(), &runtimev1.StartContainerRequest{ContainerId: resp.GetContainerId()}); err != nil {
		t.Fatal(err)
	}
	return resp.GetContainerId()
}

func statusOf(t *testing.T, r cri.Runtime, id string) *runtimev1.ContainerStatus {
	t.Helper()
	resp, err := r.ContainerStatus(t.Context(), &runtimev1.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetStatus()
}

// inBubble runs f on a runtime, without waiting for real time.
func inBubble(t *testing.T, config Config, f func(t *testing.T, s *Server, r cri.Runtime)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		config.Images = append(config.Images, image)
		s := New(config)
		defer s.Close()
		f(t, s, s.Runtime(cri.Deps{}))
	})
}

func TestLifecycle(t *testing.T) {
	inBubble(t, Config{FaultRate: -1}, func(t *testing.T, s *Server, r cri.Runtime) {
		sandbox := runPod(t, r, "web")
		id := startContainer(t, r, sandbox, "web", "app")
		if got := statusOf(t, r, id).GetState(); got != running {
			t.Fatalf("started container is %s\n%s", got, s)
		}
		if _, err := r.StartContainer(t.Context(), &runtimev1.StartContainerRequest{ContainerId: id}); err == nil {
			t.Error("starting a running container succeeded")
		}
		if _, err := r.StopContainer(t.Context(), &runtimev1.StopContainerRequest{ContainerId: id, Timeout: 30}); err != nil {
			t.Fatal(err)
		}
		if got := statusOf(t, r, id); got.GetState() != exited || got.GetExitCode() != sigtermed {
			t.Errorf("stopped container: %v", got)
		}
		if _, err := r.RemovePodSandbox(t.Context(), &runtimev1.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
			t.Fatal(err)
		}
		if len(s.Containers())+len(s.Sandboxes())+len(s.names) != 0 || len(s.Incidents()) != 0 {
			t.Errorf("left behind:\n%s", s)
		}
		if _, err := r.PodSandboxStatus(t.Context(), &runtimev1.PodSandboxStatusRequest{PodSandboxId: sandbox}); !errors.Is(err, cri.ErrNotFound) {
			t.Errorf("status of a removed sandbox: %v, want ErrNotFound", err)
		}
	})
}

func TestGracePeriod(t *testing.T) {
	program := func(c *runtimev1.ContainerConfig) Program {
		switch c.GetMetadata().GetName() {
		case "stubborn":
			return Program{IgnoreTerm: true}
		case "slow":
			return Program{StopAfter: 3 * time.Second}
		default:
			return Program{}
		}
	}
	inBubble(t, Config{FaultRate: -1, Program: program}, func(t *testing.T, s *Server, r cri.Runtime) {
		sandbox := runPod(t, r, "web")
		for name, want := range map[string]struct {
			took time.Duration
			code int32
		}{
			"stubborn": {10 * time.Second, sigkilled},
			"slow":     {3 * time.Second, sigtermed},
		} {
			id := startContainer(t, r, sandbox, "web", name)
			start := time.Now()
			if _, err := r.StopContainer(t.Context(), &runtimev1.StopContainerRequest{ContainerId: id, Timeout: 10}); err != nil {
				t.Fatal(err)
			}
			if took, code := time.Since(start), statusOf(t, r, id).GetExitCode(); took != want.took || code != want.code {
				t.Errorf("%s stopped in %s with %d, want %s with %d", name, took, code, want.took, want.code)
			}
		}
	})
}

func TestProgramExits(t *testing.T) {
	program := func(*runtimev1.ContainerConfig) Program { return Program{RunFor: time.Minute, ExitCode: 3} }
	inBubble(t, Config{FaultRate: -1, Program: program}, func(t *testing.T, _ *Server, r cri.Runtime) {
		id := startContainer(t, r, runPod(t, r, "job"), "job", "main")
		time.Sleep(time.Minute + time.Millisecond)
		if got := statusOf(t, r, id); got.GetState() != exited || got.GetExitCode() != 3 || got.GetReason() != "Error" {
			t.Errorf("after its time: %v", got)
		}
	})
}

func TestStartError(t *testing.T) {
	program := func(*runtimev1.ContainerConfig) Program { return Program{StartError: "exec: not found"} }
	inBubble(t, Config{FaultRate: -1, Program: program}, func(t *testing.T, s *Server, r cri.Runtime) {
		created, err := r.CreateContainer(t.Context(), createRequest(runPod(t, r, "web"), "web", "app"))
		if err != nil {
			t.Fatal(err)
		}
		id := created.GetContainerId()
		if _, err := r.StartContainer(t.Context(), &runtimev1.StartContainerRequest{ContainerId: id}); err == nil {
			t.Fatal("start succeeded")
		}
		if got := statusOf(t, r, id); got.GetState() != exited || got.GetExitCode() != notBegun || got.GetReason() != "StartError" {
			t.Errorf("got %v\n%s", got, s)
		}
	})
}

func TestNameIsReserved(t *testing.T) {
	tests := []struct {
		fault  Fault
		listed int // sandboxes right after the call that timed out
	}{
		{Fault{Op: "RunPodSandbox", Kind: Lose}, 1},
		{Fault{Op: "RunPodSandbox", Kind: Linger, Delay: time.Second}, 0},
	}
	for _, test := range tests {
		t.Run(test.fault.Kind.String(), func(t *testing.T) {
			inBubble(t, Config{FaultRate: -1}, func(t *testing.T, s *Server, r cri.Runtime) {
				s.Inject(test.fault)
				run := func() error {
					_, err := r.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: podConfig("web")})
					return err
				}
				if err := run(); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("first call: %v, want DeadlineExceeded", err)
				}
				if got := len(s.Sandboxes()); got != test.listed {
					t.Errorf("%d sandboxes listed, want %d", got, test.listed)
				}
				holder, reserved := cri.NameReserved(run())
				if !reserved {
					t.Fatalf("second call was not refused\n%s", s)
				}
				time.Sleep(2 * time.Second)
				if got := s.Sandboxes(); len(got) != 1 || got[0].GetId() != holder {
					t.Errorf("sandbox %s does not show up:\n%s", holder, s)
				}
			})
		})
	}
}

func TestDeadlineUndoesTheReservation(t *testing.T) {
	inBubble(t, Config{FaultRate: -1, Latency: map[string]time.Duration{"RunPodSandbox": time.Hour}}, func(t *testing.T, s *Server, r cri.Runtime) {
		start := time.Now()
		_, err := r.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: podConfig("web")})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != cri.DefaultTimeout {
			t.Fatalf("after %s: %v", time.Since(start), err)
		}
		synctest.Wait()
		if len(s.names) != 0 {
			t.Errorf("still reserved: %v", s.names)
		}
	})
}

func TestHangEndsWithTheCaller(t *testing.T) {
	inBubble(t, Config{FaultRate: -1}, func(t *testing.T, s *Server, r cri.Runtime) {
		s.Inject(Fault{Op: "PodSandboxStatus", Kind: Hang})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: "x"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
	})
}

func TestEvents(t *testing.T) {
	inBubble(t, Config{FaultRate: -1}, func(t *testing.T, s *Server, r cri.Runtime) {
		var mu sync.Mutex
		var got []runtimev1.ContainerEventType
		done := make(chan error, 1)
		go func() {
			done <- r.Events(t.Context(), func(e *runtimev1.ContainerEventResponse) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, e.GetContainerEventType())
			})
		}()
		synctest.Wait()
		id := startContainer(t, r, runPod(t, r, "web"), "web", "app")
		s.Exit(id, 0)
		synctest.Wait()
		mu.Lock()
		// Sandbox created and started, container created, started and stopped.
		if want := "[CONTAINER_CREATED_EVENT CONTAINER_STARTED_EVENT CONTAINER_CREATED_EVENT CONTAINER_STARTED_EVENT CONTAINER_STOPPED_EVENT]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %v", got, want)
		}
		mu.Unlock()
		s.CutEvents()
		if err := <-done; !errors.Is(err, cri.ErrUnavailable) {
			t.Errorf("after the cut: %v, want ErrUnavailable", err)
		}
	})
}

func TestOldRuntime(t *testing.T) {
	inBubble(t, Config{Unimplemented: []string{"GetContainerEvents", "RuntimeConfig"}}, func(t *testing.T, _ *Server, r cri.Runtime) {
		if err := r.Events(t.Context(), nil); !errors.Is(err, cri.ErrUnimplemented) {
			t.Errorf("events: %v", err)
		}
		if _, err := r.RuntimeConfig(t.Context(), &runtimev1.RuntimeConfigRequest{}); !errors.Is(err, cri.ErrUnimplemented) {
			t.Errorf("runtime config: %v", err)
		}
	})
}

func TestDownAndUp(t *testing.T) {
	inBubble(t, Config{FaultRate: -1}, func(t *testing.T, s *Server, r cri.Runtime) {
		runPod(t, r, "web")
		s.Down()
		if _, err := r.ListPodSandbox(t.Context(), &runtimev1.ListPodSandboxRequest{}); !errors.Is(err, cri.ErrUnavailable) {
			t.Errorf("while down: %v", err)
		}
		s.Up()
		if got, err := r.ListPodSandbox(t.Context(), &runtimev1.ListPodSandboxRequest{}); err != nil || len(got.GetItems()) != 1 {
			t.Errorf("while up: %v, %v", got, err)
		}
	})
}

// TestSeedReproduces: the same calls, whatever their order, meet the same faults.
func TestSeedReproduces(t *testing.T) {
	outcome := func(order []int) string {
		var got string
		inBubble(t, Config{Seed: 7, FaultRate: 0.5}, func(t *testing.T, s *Server, r cri.Runtime) {
			results := make([]bool, len(order))
			for _, i := range order {
				_, err := r.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: podConfig(fmt.Sprint("pod-", i))})
				results[i] = err == nil
			}
			got = fmt.Sprint(results)
		})
		return got
	}
	a, b := outcome([]int{0, 1, 2, 3, 4, 5, 6, 7}), outcome([]int{7, 3, 5, 1, 0, 2, 6, 4})
	if a != b {
		t.Errorf("%s\n%s", a, b)
	}
}

func TestFaultRate(t *testing.T) {
	f := newFaults(Config{FaultRate: DefaultFaultRate, MaxDelay: time.Millisecond})
	faulty := map[Kind]int{}
	const calls = 100_000
	for i := range calls {
		if fault := f.next("CreateContainer", fmt.Sprint(i)); fault != (Fault{}) {
			faulty[fault.Kind]++
		}
	}
	total := faulty[Slow] + faulty[Refuse] + faulty[Lose] + faulty[Linger]
	if total < calls*9/100 || total > calls*11/100 || faulty[Lose] < total/8 || faulty[Linger] < total/8 {
		t.Errorf("%d of %d calls are faulty: %v", total, calls, faulty)
	}
}

// TestLookUpAndAdopt is the law that agents rely on: a client that looks up what it does not know
// gets one running container through any faults.
func TestLookUpAndAdopt(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed, rate := rapid.Uint64().Draw(rt, "seed"), rapid.Float64Range(0.01, 0.6).Draw(rt, "rate")
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{Seed: seed, FaultRate: rate, Images: []string{image}})
			defer s.Close()
			converge(t, s, s.Runtime(cri.Deps{}))
			time.Sleep(time.Minute) // what lingers comes to its end
			if got := s.Containers(); len(got) != 1 || got[0].GetState() != running || len(s.Sandboxes()) != 1 || len(s.Incidents()) != 0 {
				t.Fatalf("not converged:\n%s", s)
			}
		})
	})
}

// converge is the smallest agent: look, then do the next step, until it runs.
func converge(t *testing.T, s *Server, r cri.Runtime) {
	t.Helper()
	const rounds = 1000
	for range rounds {
		time.Sleep(100 * time.Millisecond)
		sandboxes, err := r.ListPodSandbox(t.Context(), &runtimev1.ListPodSandboxRequest{})
		if err != nil {
			continue
		}
		if len(sandboxes.GetItems()) == 0 {
			_, _ = r.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: podConfig("web")})
			continue
		}
		containers, err := r.ListContainers(t.Context(), &runtimev1.ListContainersRequest{})
		switch {
		case err != nil:
		case len(containers.GetContainers()) == 0:
			_, _ = r.CreateContainer(t.Context(), createRequest(sandboxes.GetItems()[0].GetId(), "web", "app"))
		case containers.GetContainers()[0].GetState() == created:
			_, _ = r.StartContainer(t.Context(), &runtimev1.StartContainerRequest{ContainerId: containers.GetContainers()[0].GetId()})
		default:
			return
		}
	}
	t.Fatalf("not running after %d rounds:\n%s", rounds, s)
}

func TestServeOnSocket(t *testing.T) {
	s := New(Config{FaultRate: -1, Images: []string{image}})
	defer s.Close()
	path := filepath.Join(t.TempDir(), "cri.sock")
	client, err := cri.Dial(path, cri.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Version(t.Context(), &runtimev1.VersionRequest{}); !errors.Is(err, cri.ErrUnavailable) {
		t.Errorf("before the runtime is there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, path) }()
	if err := client.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := startContainer(t, client, runPod(t, client, "web"), "web", "app")
	if got := statusOf(t, client, id).GetState(); got != running {
		t.Errorf("container is %s", got)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
