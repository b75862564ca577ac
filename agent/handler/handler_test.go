package handler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
	"nodelet/cri/critest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func handlers() *Handlers { return New(Config{Version: "1.36"}, Deps{}) }

// target is a container on loopback whose port "web" is that of a server.
func target(t *testing.T, server string) (Target, int) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return Target{
		ContainerID: "c", IP: netip.MustParseAddr("127.0.0.1"),
		Container: &corev1.Container{Name: "main", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(port)}}},
	}, port
}

func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func get(a corev1.HTTPGetAction) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &a}, TimeoutSeconds: 1}
}

func web(path string) corev1.HTTPGetAction {
	return corev1.HTTPGetAction{Path: path, Port: intstr.FromString("web")}
}

func TestHTTPJudgesByStatus(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(code)
		fmt.Fprint(w, "body of the server")
	})
	tgt, _ := target(t, url)
	for code, want := range map[int]Outcome{200: Success, 204: Success, 304: Success, 399: Success, 400: Failure, 404: Failure, 500: Failure, 503: Failure} {
		r := handlers().Probe(t.Context(), tgt, get(web("/"+strconv.Itoa(code))))
		if r.Outcome != want {
			t.Errorf("%d: %s", code, r)
		}
		if want == Failure && r.Message != fmt.Sprintf("HTTP probe failed with statuscode: %d", code) {
			t.Errorf("%d: %s", code, r)
		}
	}
}

func TestHTTPRequest(t *testing.T) {
	var got *http.Request
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r })
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	tgt, port := target(t, url)
	a := web("/healthz?full=1")
	if r := handlers().Probe(t.Context(), tgt, get(a)); r.Outcome != Success {
		t.Fatal(r)
	}
	if got.UserAgent() != "kube-probe/1.36" || got.Header.Get("Accept") != "*/*" || got.Header.Get("Accept-Encoding") != "" ||
		got.RequestURI != "/healthz?full=1" || got.Host != fmt.Sprintf("127.0.0.1:%d", port) || !got.Close {
		t.Errorf("%+v", got)
	}
	a.HTTPHeaders = []corev1.HTTPHeader{{Name: "host", Value: "example.com"}, {Name: "X-A", Value: "1"}, {Name: "X-A", Value: "2"}, {Name: "User-Agent", Value: "mine"}, {Name: "Accept", Value: ""}}
	a.Path = "healthz"
	if r := handlers().Probe(t.Context(), tgt, get(a)); r.Outcome != Success {
		t.Fatal(r)
	}
	if got.Host != "example.com" || strings.Join(got.Header["X-A"], ",") != "1,2" || got.UserAgent() != "mine" || got.Header["Accept"] != nil || got.RequestURI != "/healthz" {
		t.Errorf("%+v", got)
	}
}

func TestHTTPRedirects(t *testing.T) {
	var other atomic.Int32
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { other.Add(1) })
	_, otherPort := target(t, elsewhere)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/end":
			w.WriteHeader(http.StatusTeapot)
		case "/other":
			http.Redirect(w, r, fmt.Sprintf("http://127.0.0.2:%d/", otherPort), http.StatusFound)
		default:
			http.Redirect(w, r, "/loop", http.StatusFound)
		}
	})
	tgt, _ := target(t, url)
	if r := handlers().Probe(t.Context(), tgt, get(web("/same"))); r.Outcome != Failure || !strings.Contains(r.Message, "418") {
		t.Errorf("to the same host: %s", r)
	}
	if r := handlers().Probe(t.Context(), tgt, get(web("/other"))); r.Outcome != Success || !r.Odd || !strings.Contains(r.Message, "terminated redirects") || other.Load() != 0 {
		t.Errorf("to another host: %s, %d requests there", r, other.Load())
	}
	if r := handlers().Probe(t.Context(), tgt, get(web("/loop"))); r.Outcome != Failure || !strings.Contains(r.Message, "stopped after 10 redirects") {
		t.Errorf("in a circle: %s", r)
	}
}

func TestHTTPSIsNotVerified(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	tgt, _ := target(t, s.URL)
	a := web("/")
	a.Scheme = corev1.URISchemeHTTPS
	if r := handlers().Probe(t.Context(), tgt, get(a)); r.Outcome != Success {
		t.Error(r)
	}
	a.Scheme = corev1.URISchemeHTTP
	if r := handlers().Probe(t.Context(), tgt, get(a)); r.Outcome != Failure {
		t.Errorf("without TLS: %s", r)
	}
}

func TestHTTPBounds(t *testing.T) {
	quit := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			for r.Context().Err() == nil {
				fmt.Fprint(w, strings.Repeat("x", 1000))
			}
		case "/headers":
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		default:
			select {
			case <-r.Context().Done():
			case <-quit:
			}
		}
	})
	defer close(quit)
	tgt, _ := target(t, url)
	if r := handlers().Probe(t.Context(), tgt, get(web("/endless"))); r.Outcome != Success || len(r.Message) != maxOutput {
		t.Errorf("endless body: %s, %d bytes", r.Outcome, len(r.Message))
	}
	if r := handlers().Probe(t.Context(), tgt, get(web("/headers"))); r.Outcome != Failure {
		t.Errorf("headers of a megabyte: %s", r.Outcome)
	}
	begun := time.Now()
	if r := handlers().Probe(t.Context(), tgt, get(web("/silent"))); r.Outcome != Failure || !strings.Contains(r.Message, "deadline exceeded") {
		t.Errorf("silent server: %s", r)
	}
	if took := time.Since(begun); took < 900*time.Millisecond || took > 5*time.Second {
		t.Errorf("a time-out of 1 s took %s", took)
	}
}

func TestPorts(t *testing.T) {
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	tgt, number := target(t, url)
	for _, p := range []intstr.IntOrString{intstr.FromInt(number), intstr.FromString("web"), intstr.FromString(strconv.Itoa(number))} {
		if r := handlers().Probe(t.Context(), tgt, get(corev1.HTTPGetAction{Port: p})); r.Outcome != Success {
			t.Errorf("%s: %s", p.String(), r)
		}
	}
	for _, p := range []intstr.IntOrString{intstr.FromInt(0), intstr.FromInt(65536), intstr.FromInt(-1), intstr.FromString("none"), intstr.FromString("")} {
		if r := handlers().Probe(t.Context(), tgt, get(corev1.HTTPGetAction{Port: p})); r.Outcome != Unknown || !strings.Contains(r.Message, "port") {
			t.Errorf("%s: %s", p.String(), r)
		}
	}
	tgt.IP = netip.Addr{}
	if r := handlers().Probe(t.Context(), tgt, get(web("/"))); r.Outcome != Unknown || !strings.Contains(r.Message, "no address") {
		t.Errorf("without an address: %s", r)
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tgt, number := target(t, "http://"+l.Addr().String())
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(number)}}}
	if r := handlers().Probe(t.Context(), tgt, probe); r.Outcome != Success {
		t.Error(r)
	}
	l.Close()
	if r := handlers().Probe(t.Context(), tgt, probe); r.Outcome != Failure || !strings.Contains(r.Message, "connection refused") {
		t.Errorf("nobody listens: %s", r)
	}
	probe.TCPSocket.Host = "127.0.0.1"
	tgt.IP = netip.Addr{}
	if r := handlers().Probe(t.Context(), tgt, probe); r.Outcome != Failure {
		t.Errorf("a host of one's own needs no pod address: %s", r)
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	state := health.NewServer()
	hang := make(chan struct{})
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if md, _ := metadata.FromIncomingContext(ctx); !strings.HasPrefix(strings.Join(md["user-agent"], ""), "kube-probe/1.36") {
			t.Errorf("user agent %q", md["user-agent"])
		}
		if req.(*grpc_health_v1.HealthCheckRequest).Service == "hang" {
			<-hang
		}
		return next(ctx, req)
	}))
	grpc_health_v1.RegisterHealthServer(server, state)
	state.SetServingStatus("good", grpc_health_v1.HealthCheckResponse_SERVING)
	state.SetServingStatus("bad", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	go server.Serve(l)
	defer server.Stop()
	defer close(hang)
	tgt, number := target(t, "http://"+l.Addr().String())
	probe := func(service *string) Result {
		return handlers().Probe(t.Context(), tgt, &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(number), Service: service}}})
	}
	name := func(s string) *string { return &s }
	for _, c := range []struct {
		service *string
		want    string
	}{
		{nil, "success: service healthy"},
		{name("good"), "success: service healthy"},
		{name("bad"), `failure: service unhealthy (responded with "NOT_SERVING")`},
		{name("none"), "failure: error: health rpc probe failed: rpc error: code = 5 desc = unknown service"},
		{name("hang"), "failure: timeout: "},
	} {
		if r := probe(c.service); !strings.HasPrefix(r.String(), c.want) {
			t.Errorf("%v: %s", c.service, r)
		}
	}
}

func TestGRPCAgainstOthers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bare := grpc.NewServer()
	go bare.Serve(l)
	defer bare.Stop()
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for url, want := range map[string]string{
		"http://" + l.Addr().String():      "does not implement the grpc health protocol",
		plain:                              "error: failed to connect service",
		"http://" + closed.Addr().String(): "connection refused",
	} {
		tgt, number := target(t, url)
		r := handlers().Probe(t.Context(), tgt, &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(number)}}})
		if r.Outcome != Failure || !strings.Contains(r.Message, want) {
			t.Errorf("got %s, want %s", r, want)
		}
	}
}

func FuzzHealthStatus(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 6, 0x12, 2, 'a', 'b', 8, 2})
	f.Add([]byte{0, 0, 0, 0, 11, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if name, err := healthStatus(frame); err == nil && name == "" {
			t.Fatal("neither a status nor an error")
		}
	})
}

func execServer(t *testing.T, exec func(ctx context.Context, container string, cmd []string) (string, int32, error)) (*critest.Server, *Handlers, Target) {
	server := critest.New(critest.Config{FaultRate: -1, Images: []string{"img"}, Exec: exec})
	t.Cleanup(server.Close)
	rt := server.Runtime(cri.Deps{})
	meta := &runtimev1.PodSandboxConfig{Metadata: &runtimev1.PodSandboxMetadata{Name: "p", Namespace: "ns", Uid: "u"}}
	sb, err := rt.RunPodSandbox(t.Context(), &runtimev1.RunPodSandboxRequest{Config: meta})
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.CreateContainer(t.Context(), &runtimev1.CreateContainerRequest{PodSandboxId: sb.PodSandboxId, SandboxConfig: meta,
		Config: &runtimev1.ContainerConfig{Metadata: &runtimev1.ContainerMetadata{Name: "main"}, Image: &runtimev1.ImageSpec{Image: "img"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.StartContainer(t.Context(), &runtimev1.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
		t.Fatal(err)
	}
	h := New(Config{Version: "1.36"}, Deps{Runtime: rt})
	return server, h, Target{ContainerID: c.ContainerId, Container: &corev1.Container{Name: "main", Env: []corev1.EnvVar{{Name: "A", Value: "old"}, {Name: "A", Value: "1"}, {Name: "REF", ValueFrom: &corev1.EnvVarSource{}}}}}
}

func command(cmd ...string) *corev1.Probe {
	return &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: cmd}}}
}

func TestExec(t *testing.T) {
	server, h, tgt := execServer(t, func(ctx context.Context, _ string, cmd []string) (string, int32, error) {
		switch cmd[0] {
		case "hang":
			<-ctx.Done()
			return "", 0, ctx.Err()
		case "missing":
			return "", 0, errors.New("executable file not found in $PATH")
		}
		code, _ := strconv.Atoi(cmd[0])
		return strings.Join(cmd, " ") + strings.Repeat("x", 20<<10), int32(code), nil
	})
	if r := h.Probe(t.Context(), tgt, command("0", "$(A)", "$$(A)", "$(NONE)", "$HOME")); r.Outcome != Success || !strings.HasPrefix(r.Message, "0 1 $(A) $(NONE) $HOME") || len(r.Message) != maxOutput {
		t.Errorf("%.60s, %d bytes", r, len(r.Message))
	}
	if r := h.Probe(t.Context(), tgt, command("3", "no")); r.Outcome != Failure || !strings.HasPrefix(r.Message, "3 no") {
		t.Errorf("%.60s", r)
	}
	if r := h.Probe(t.Context(), tgt, command("hang")); r.Outcome != Failure || !strings.Contains(r.Message, "timed out after 1s") {
		t.Error(r)
	}
	if r := h.Probe(t.Context(), tgt, command("missing")); r.Outcome != Unknown || !strings.Contains(r.Message, "executable file not found") {
		t.Error(r)
	}
	server.Down()
	if r := h.Probe(t.Context(), tgt, command("0")); r.Outcome != Unknown {
		t.Errorf("with the runtime down: %s", r)
	}
}

func TestHooks(t *testing.T) {
	_, h, tgt := execServer(t, func(_ context.Context, _ string, cmd []string) (string, int32, error) {
		code, _ := strconv.Atoi(cmd[0])
		return cmd[1], int32(code), nil
	})
	hook := func(ctx context.Context, l corev1.LifecycleHandler) Result { return h.Hook(ctx, tgt, &l) }
	if r := hook(t.Context(), corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"0", "$(A)"}}}); r.Outcome != Success || r.Message != "$(A)" {
		t.Errorf("variables of hooks are not filled in: %s", r)
	}
	if r := hook(t.Context(), corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"1", "x"}}}); r.Outcome != Failure {
		t.Error(r)
	}
	if r := hook(t.Context(), corev1.LifecycleHandler{Sleep: &corev1.SleepAction{}}); r.Outcome != Success {
		t.Error(r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := hook(ctx, corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1000}}); r.Outcome != Failure {
		t.Error(r)
	}
	if r := hook(t.Context(), corev1.LifecycleHandler{}); r.Outcome != Failure {
		t.Error(r)
	}
	// A hook that asks for TLS of a server without is asked again, without its credentials.
	var got atomic.Pointer[http.Request]
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r)
		w.WriteHeader(http.StatusInternalServerError)
	})
	web, number := target(t, url)
	r := h.Hook(t.Context(), web, &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
		Scheme: corev1.URISchemeHTTPS, Port: intstr.FromInt(number), HTTPHeaders: []corev1.HTTPHeader{{Name: "Authorization", Value: "s3cret"}},
	}})
	if req := got.Load(); r.Outcome != Success || req == nil || req.Header.Get("Authorization") != "" || req.UserAgent() != "kube-lifecycle/1.36" {
		t.Errorf("%s %+v", r, req)
	}
}
