package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"nodelet/internal/model"
)

// config is how client-go reaches the server as admin.
func (w *world) config() *rest.Config {
	cert, key := w.ca.sign(w.t, subject("admin"), clientAuth, time.Hour)
	return &rest.Config{Host: w.url, TLSClientConfig: rest.TLSClientConfig{CAData: w.ca.pem, CertData: cert, KeyData: key}}
}

// executors are the two ways kubectl has.
func (w *world) executors(path string) map[string]remotecommand.Executor {
	w.t.Helper()
	u, err := url.Parse(w.url + path)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := remotecommand.NewSPDYExecutor(w.config(), "POST", u)
	if err != nil {
		w.t.Fatal(err)
	}
	ws, err := remotecommand.NewWebSocketExecutor(w.config(), "GET", u.String())
	if err != nil {
		w.t.Fatal(err)
	}
	return map[string]remotecommand.Executor{"SPDY": s, "WebSocket": ws}
}

func both(t *testing.T, w *world, path string, test func(t *testing.T, e remotecommand.Executor)) {
	for name, e := range w.executors(path) {
		t.Run(name, func(t *testing.T) { test(t, e) })
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestExec(t *testing.T) {
	w := newWorld(t, nil)
	t.Run("stdin to stdout", func(t *testing.T) {
		big := strings.Repeat("0123456789abcdef", 1<<14)
		both(t, w, "/exec/ns/web-0/main?command=cat&input=1&output=1&error=1", func(t *testing.T, e remotecommand.Executor) {
			var out, errOut bytes.Buffer
			err := e.StreamWithContext(within(t), remotecommand.StreamOptions{Stdin: strings.NewReader(big), Stdout: &out, Stderr: &errOut})
			if err != nil || out.String() != big {
				t.Errorf("%d of %d bytes, %v", out.Len(), len(big), err)
			}
		})
	})
	t.Run("both outputs", func(t *testing.T) {
		both(t, w, "/exec/ns/web-0/"+podUIDText+"/main?command=both&output=1&error=1", func(t *testing.T, e remotecommand.Executor) {
			var out, errOut bytes.Buffer
			err := e.StreamWithContext(within(t), remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
			if err != nil || out.String() != "to stdout" || errOut.String() != "to stderr" {
				t.Errorf("%q %q %v", out.String(), errOut.String(), err)
			}
		})
	})
	t.Run("exit code", func(t *testing.T) {
		both(t, w, "/exec/ns/web-0/main?command=fail&output=1", func(t *testing.T, e remotecommand.Executor) {
			err := e.StreamWithContext(within(t), remotecommand.StreamOptions{Stdout: io.Discard})
			var code exec.CodeExitError
			if !errors.As(err, &code) || code.ExitStatus() != 7 {
				t.Errorf("%v", err)
			}
		})
	})
	t.Run("terminal size", func(t *testing.T) {
		both(t, w, "/exec/ns/web-0/main?command=size&output=1&tty=1", func(t *testing.T, e remotecommand.Executor) {
			var out bytes.Buffer
			err := e.StreamWithContext(within(t), remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: &sizes{{Width: 80, Height: 25}}})
			if err != nil || out.String() != "80x25" {
				t.Errorf("%q %v", out.String(), err)
			}
		})
	})
	t.Run("attach", func(t *testing.T) {
		both(t, w, "/attach/ns/web-0/main?output=1&error=1", func(t *testing.T, e remotecommand.Executor) {
			var out, errOut bytes.Buffer
			err := e.StreamWithContext(within(t), remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
			if err != nil || out.String() != "to stdout" || errOut.String() != "to stderr" {
				t.Errorf("%q %q %v", out.String(), errOut.String(), err)
			}
		})
	})
	w.runtime.mu.Lock()
	defer w.runtime.mu.Unlock()
	for _, r := range w.runtime.requests {
		if !strings.Contains(r, " c1 ") {
			t.Errorf("asked of another container: %s", r)
		}
	}
}

type sizes []remotecommand.TerminalSize

func (s *sizes) Next() *remotecommand.TerminalSize {
	if len(*s) == 0 {
		return nil
	}
	next := (*s)[0]
	*s = (*s)[1:]
	return &next
}

// Nothing of who asks reaches the runtime.
func TestCredentialsEndHere(t *testing.T) {
	w := newWorld(t, nil)
	w.reviews.mu.Lock()
	w.reviews.allowed["robot *"] = true
	w.reviews.mu.Unlock()
	cfg := &rest.Config{Host: w.url, BearerToken: "good", TLSClientConfig: rest.TLSClientConfig{CAData: w.ca.pem}}
	u, _ := url.Parse(w.url + "/exec/ns/web-0/main?command=both&output=1")
	e, err := remotecommand.NewSPDYExecutor(cfg, "POST", u)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.StreamWithContext(within(t), remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
		t.Fatal(err)
	}
	w.seenMu.Lock()
	defer w.seenMu.Unlock()
	if len(w.seen) == 0 {
		t.Fatal("the streaming server was not asked")
	}
	for _, r := range w.seen {
		if r.Header.Get("Authorization") != "" || strings.Contains(r.URL.String(), "good") {
			t.Errorf("the runtime sees %v", r.Header)
		}
	}
}

// Who may "get" may not execute, whatever the method and the protocol.
func TestGetIsNotEnough(t *testing.T) {
	w := newWorld(t, nil)
	w.reviews.mu.Lock()
	w.reviews.allowed = map[string]bool{"admin get proxy": true, "admin get pods": true}
	w.reviews.mu.Unlock()
	both(t, w, "/exec/ns/web-0/main?command=both&output=1", func(t *testing.T, e remotecommand.Executor) {
		if err := e.StreamWithContext(within(t), remotecommand.StreamOptions{Stdout: io.Discard}); err == nil {
			t.Error("executed")
		}
	})
	w.runtime.mu.Lock()
	defer w.runtime.mu.Unlock()
	if len(w.runtime.requests) > 0 {
		t.Errorf("the runtime was asked: %v", w.runtime.requests)
	}
}

func TestStreamErrors(t *testing.T) {
	w := newWorld(t, nil)
	admin := w.client(w.tls("admin"))
	upgrade := http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {"v4.channel.k8s.io"}}
	for _, test := range []struct {
		path   string
		header http.Header
		code   int
	}{
		{"/exec/ns/web-0/main?command=cat", upgrade, 400},           // no stream
		{"/exec/ns/web-0/main?output=1", upgrade, 400},              // no command
		{"/exec/ns/web-0/main?command=cat&output=1", nil, 400},      // no upgrade
		{"/exec/ns/nope/main?command=cat&output=1", upgrade, 404},   // no pod
		{"/exec/ns/web-0/nope?command=cat&output=1", upgrade, 404},  // no container
		{"/exec/ns/web-0/crash?command=cat&output=1", upgrade, 404}, // does not run
		{"/attach/ns/web-0/main", upgrade, 400},
		{"/portForward/ns/nope", upgrade, 404},
		{"/portForward/ns/web-0/other-uid", upgrade, 404},
		{"/portForward/ns/web-0", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, 400}, // no port
		{"/portForward/ns/web-0?port=70000", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, 400},
	} {
		if code, body := w.do(admin, "POST", test.path, test.header); code != test.code {
			t.Errorf("%s: %d %s, want %d", test.path, code, body, test.code)
		}
	}
	// A runtime that is gone.
	w.runtime.Server = brokenStreams{w.runtime.Server}
	if code, _ := w.do(admin, "POST", "/exec/ns/web-0/main?command=cat&output=1", upgrade); code != 500 {
		t.Errorf("no streaming server: %d", code)
	}
	for name, e := range w.executors("/exec/ns/web-0/main?command=cat&output=1") {
		if err := e.StreamWithContext(within(t), remotecommand.StreamOptions{Stdout: io.Discard}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if w.server.streams.all != 0 {
		t.Errorf("%d streams are still counted", w.server.streams.all)
	}
}

// The daemon stops even while somebody is inside a container, and cuts that off.
func TestStopCutsStreams(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel() // a client of client-go may not notice by itself while it waits for its own stdin
	for _, e := range w.executors("/exec/ns/web-0/main?command=hang&input=1&output=1") {
		in, feed := io.Pipe()
		defer feed.Close()
		clients.Go(func() { _ = e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: io.Discard}) })
		<-w.hanging
	}
	w.stop()
	w.server.streams.mu.Lock()
	defer w.server.streams.mu.Unlock()
	if w.server.streams.all != 0 {
		t.Errorf("%d streams go on", w.server.streams.all)
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// forwarders are the two ways of kubectl port-forward to a pod's ports.
func (w *world) forwarders(t *testing.T) map[string]httpstream.Dialer {
	t.Helper()
	u, err := url.Parse(w.url + "/portForward/ns/web-0")
	if err != nil {
		t.Fatal(err)
	}
	tr, upgrader, err := spdy.RoundTripperFor(w.config())
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(u, w.config())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]httpstream.Dialer{
		"SPDY": spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: tr}, "POST", u), "SPDY in WebSocket": tunnel,
	}
}

func TestPortForward(t *testing.T) {
	w := newWorld(t, nil)
	for name, dialer := range w.forwarders(t) {
		t.Run(name, func(t *testing.T) { forwardOne(t, dialer) })
	}
	// Streams are given up when their clients go.
	waitFor(t, "the end of the streams", func() bool {
		w.server.streams.mu.Lock()
		defer w.server.streams.mu.Unlock()
		return w.server.streams.all == 0
	})
}

// The old WebSocket protocol, which names its ports in the query.
func TestPortForwardWebSocket(t *testing.T) {
	w := newWorld(t, nil)
	cfg, err := websocket.NewConfig("wss"+strings.TrimPrefix(w.url, "https")+"/portForward/ns/web-0?port=81", w.url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.TlsConfig, cfg.Protocol = w.tls("admin"), []string{"v4.channel.k8s.io"}
	ws, err := websocket.DialConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	_ = ws.SetDeadline(time.Now().Add(20 * time.Second))
	var got []byte
	for !strings.Contains(string(got), "port 81: ") {
		var frame []byte
		if err := websocket.Message.Receive(ws, &frame); err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		if len(frame) > 0 && frame[0] == 0 {
			got = append(got, frame[1:]...)
		}
	}
}

// A container that is replaced while its pod stays: exec goes to the one that runs now.
func TestExecFollowsTheStore(t *testing.T) {
	w := newWorld(t, nil)
	rt := w.runtimeOf(model.ContainerExited)
	rt.Containers = append([]model.Container{{ID: "c2", Name: "main", Attempt: 2, State: model.ContainerRunning}}, rt.Containers...)
	w.writers.Runtime.Set(podUIDText, rt)
	for _, e := range w.executors("/exec/ns/web-0/main?command=both&output=1") {
		if err := e.StreamWithContext(within(t), remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
			t.Error(err)
		}
	}
	for _, r := range w.runtime.requests {
		if !strings.HasPrefix(r, "exec c2 ") {
			t.Errorf("asked %s", r)
		}
	}
}

// forwardOne forwards a local port to port 81 of the pod and says hello through it, twice at once.
func forwardOne(t *testing.T, d httpstream.Dialer) {
	stop, ready := make(chan struct{}), make(chan struct{})
	f, err := portforward.NewForStreaming(d, []string{"0:81"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.ForwardPorts() }()
	defer func() {
		close(stop)
		<-done
	}()
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("forward: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("the port is not forwarded")
	}
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "hello")
		got := make([]byte, len("port 81: hello"))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "port 81: hello" {
			t.Errorf("%q %v", got, err)
		}
	}
}
