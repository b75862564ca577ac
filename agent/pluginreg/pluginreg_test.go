package pluginreg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"nodelet/internal/store"
)

// fakePlugin registers as it is told, and passes on what it hears.
type fakePlugin struct {
	registerapi.UnimplementedRegistrationServer
	info  *registerapi.PluginInfo
	hang  bool
	heard chan *registerapi.RegistrationStatus
}

func (p *fakePlugin) GetInfo(ctx context.Context, _ *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	if p.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return p.info, nil
}

func (p *fakePlugin) NotifyRegistrationStatus(_ context.Context, s *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	p.heard <- s
	return &registerapi.RegistrationStatusResponse{}, nil
}

// serve puts the plugin's socket into the directory; the result takes it away.
func (p *fakePlugin) serve(t *testing.T, path string) (stop func()) {
	t.Helper()
	p.heard = make(chan *registerapi.RegistrationStatus, 10)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	registerapi.RegisterRegistrationServer(s, p)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return s.Stop
}

// handler refuses the plugin named bad, and tells of all others.
type handler chan string

func (h handler) Register(_ context.Context, name, endpoint string, versions []string) error {
	if name == "bad" {
		return errors.New("no such thing")
	}
	h <- fmt.Sprintf("+%s %s %v", name, endpoint, versions)
	return nil
}

func (h handler) Deregister(_ context.Context, name, endpoint string) error {
	h <- fmt.Sprintf("-%s %s", name, endpoint)
	return nil
}

func start(t *testing.T) (dir string, h handler) {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	dir, err := os.MkdirTemp("", "reg") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	h = make(handler, 10)
	s, _ := store.New()
	r := New(Config{Dir: dir}, Deps{Store: s, Handlers: map[string]Handler{CSIPlugin: h}, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
		goleak.VerifyNone(t, leaks)
	})
	return dir, h
}

func expect(t *testing.T, h handler, want string) {
	t.Helper()
	select {
	case got := <-h:
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("never: %s", want)
	}
}

func heard(t *testing.T, p *fakePlugin) *registerapi.RegistrationStatus {
	t.Helper()
	select {
	case s := <-p.heard:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("the plugin never heard of its registration")
		return nil
	}
}

func csi(name string) *registerapi.PluginInfo {
	return &registerapi.PluginInfo{Type: CSIPlugin, Name: name, Endpoint: "/x/" + name, SupportedVersions: []string{"1.0.0"}}
}

func TestPluginsComeAreReplacedAndGo(t *testing.T) {
	dir, h := start(t)
	path := filepath.Join(dir, "a.sock")
	// One that hangs must not delay the others.
	(&fakePlugin{hang: true}).serve(t, filepath.Join(dir, "hangs.sock"))
	p := &fakePlugin{info: csi("a")}
	stop := p.serve(t, path)
	expect(t, h, "+a /x/a [1.0.0]")
	if s := heard(t, p); !s.PluginRegistered {
		t.Fatalf("told %v", s)
	}
	stop() // removes its socket
	expect(t, h, "-a /x/a")
	p.serve(t, path)
	expect(t, h, "+a /x/a [1.0.0]")
	// A new instance takes the place of the old one: not a moment without a plugin.
	next := &fakePlugin{info: csi("a")}
	next.serve(t, filepath.Join(dir, ".a.sock"))
	if err := os.Rename(filepath.Join(dir, ".a.sock"), path); err != nil {
		t.Fatal(err)
	}
	expect(t, h, "+a /x/a [1.0.0]")
}

func TestRefusalsAreTold(t *testing.T) {
	dir, _ := start(t)
	for name, info := range map[string]*registerapi.PluginInfo{
		"bad": csi("bad"), "kind": {Type: "TeaPot", Name: "x"}, "path": csi("../x"),
	} {
		p := &fakePlugin{info: info}
		p.serve(t, filepath.Join(dir, name+".sock"))
		if s := heard(t, p); s.PluginRegistered || s.Error == "" {
			t.Errorf("%s: told %v", name, s)
		}
	}
}
