package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/remotecommand"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"
)

// frames is a client that sees the frames of a WebSocket, as they are.
type frames struct {
	t  *testing.T
	ws *websocket.Conn
	// got is what came on each channel.
	got map[byte]string
}

// websocket opens a WebSocket with one protocol.
func (w *world) websocket(t *testing.T, path string, protocols ...string) (*frames, error) {
	t.Helper()
	cfg, err := websocket.NewConfig("wss"+strings.TrimPrefix(w.url, "https")+path, w.url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.TlsConfig, cfg.Protocol = w.tls("admin"), protocols
	ws, err := websocket.DialConfig(cfg)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { ws.Close() })
	_ = ws.SetDeadline(time.Now().Add(20 * time.Second))
	return &frames{t, ws, map[byte]string{}}, nil
}

func (w *world) mustWebsocket(t *testing.T, path, protocol string) *frames {
	t.Helper()
	f, err := w.websocket(t, path, protocol)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *frames) send(channel byte, text string) {
	f.t.Helper()
	if err := websocket.Message.Send(f.ws, append([]byte{channel}, text...)); err != nil {
		f.t.Fatal(err)
	}
}

// until reads frames until a channel has said that.
func (f *frames) until(channel byte, text string) {
	f.t.Helper()
	for !strings.Contains(f.got[channel], text) {
		var frame []byte
		if err := websocket.Message.Receive(f.ws, &frame); err != nil {
			f.t.Fatalf("%v, waiting for %q on channel %d; got %q", err, text, channel, f.got)
		}
		if len(frame) > 0 {
			f.got[frame[0]] += string(frame[1:])
		}
	}
}

// status reads to the end and gives the last word.
func (f *frames) status() metav1.Status {
	f.t.Helper()
	f.until(chError, "}")
	var s metav1.Status
	if err := json.Unmarshal([]byte(f.got[chError]), &s); err != nil {
		f.t.Fatalf("%v: %q", err, f.got[chError])
	}
	return s
}

// Both WebSocket protocols of exec: in, out, the size of the terminal, twice, and the last word.
func TestWebSocketProtocols(t *testing.T) {
	w := newWorld(t, nil)
	for _, protocol := range []string{protocolV4, protocolV5} {
		t.Run(protocol, func(t *testing.T) {
			f := w.mustWebsocket(t, "/exec/ns/web-0/main?command=line&input=1&output=1&error=1", protocol)
			f.send(chStdin, "a line\n")
			if s := f.status(); s.Status != metav1.StatusSuccess || f.got[chStdout] != "a line\n" {
				t.Errorf("%+v, %q", s, f.got)
			}
			f = w.mustWebsocket(t, "/exec/ns/web-0/main?command=fail&output=1", protocol)
			s := f.status()
			if s.Status != metav1.StatusFailure || s.Reason != "NonZeroExitCode" || s.Details == nil || len(s.Details.Causes) != 1 ||
				s.Details.Causes[0] != (metav1.StatusCause{Type: "ExitCode", Message: "7"}) {
				t.Errorf("%+v", s)
			}
			f = w.mustWebsocket(t, "/exec/ns/web-0/main?command=sizes&output=1&tty=1", protocol)
			f.send(chResize, `{"Width":80,"Height":25}`)
			f.until(chStdout, "80x25 ")
			f.send(chResize, `{"Width":132,"Height":50}`)
			if s := f.status(); s.Status != metav1.StatusSuccess || f.got[chStdout] != "80x25 132x50 " {
				t.Errorf("%+v, %q", s, f.got)
			}
			f = w.mustWebsocket(t, "/attach/ns/web-0/main?output=1&error=1", protocol)
			if s := f.status(); s.Status != metav1.StatusSuccess || f.got[chStdout] != "to stdout" || f.got[chStderr] != "to stderr" {
				t.Errorf("%+v, %q", s, f.got)
			}
		})
	}
}

// Over SPDY the terminal's size changes while a command runs, too.
func TestResizeSPDY(t *testing.T) {
	w := newWorld(t, nil)
	var out strings.Builder
	err := w.executors("/exec/ns/web-0/main?command=sizes&output=1&tty=1")["SPDY"].StreamWithContext(within(t), remotecommand.StreamOptions{
		Stdout: &out, Tty: true, TerminalSizeQueue: &sizes{{Width: 80, Height: 25}, {Width: 132, Height: 50}},
	})
	if err != nil || out.String() != "80x25 132x50 " {
		t.Errorf("%q %v", out.String(), err)
	}
}

// The fifth protocol ends one stream and leaves the others open.
func TestHalfClose(t *testing.T) {
	w := newWorld(t, nil)
	f := w.mustWebsocket(t, "/exec/ns/web-0/main?command=cat&input=1&output=1", protocolV5)
	f.send(chStdin, "before ")
	f.until(chStdout, "before ")
	f.send(chStdin, "the end")
	f.send(0xff, string([]byte{chStdin})) // the signal of a stream that ends
	if s := f.status(); s.Status != metav1.StatusSuccess || f.got[chStdout] != "before the end" {
		t.Errorf("%+v, %q", s, f.got)
	}
}

// The address of a stream holds for one use. A second one is refused, whatever the protocol, and the
// client is told so; so is one that was never given, or is too old.
func TestTokenIsForOneUse(t *testing.T) {
	w := newWorld(t, nil)
	resp, err := w.runtime.GetExec(&runtimev1.ExecRequest{ContainerId: "c1", Cmd: []string{"both"}, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	w.runtime.fixed = resp.GetUrl()
	var out strings.Builder
	first := w.executors("/exec/ns/web-0/main?command=both&output=1")["SPDY"]
	if err := first.StreamWithContext(within(t), remotecommand.StreamOptions{Stdout: &out}); err != nil || out.String() != "to stdout" {
		t.Fatalf("the first use: %q %v", out.String(), err)
	}
	for _, protocol := range []string{protocolV4, protocolV5} {
		if _, err := w.websocket(t, "/exec/ns/web-0/main?command=both&output=1", protocol); err == nil {
			t.Errorf("%s: a second use", protocol)
		}
	}
	admin := w.client(w.tls("admin"))
	for path, header := range map[string]http.Header{
		"/exec/ns/web-0/main?command=both&output=1": spdyHeader(protocolV4),
		"/portForward/ns/web-0":                     spdyHeader(forwardProtocol),
		"/portForward/ns/web-0?":                    websocketHeader(tunnelProtocol),
		"/exec/ns/web-0/main?command=cat&output=1":  websocketHeader(protocolV5),
		"/exec/ns/web-0/main?command=x&output=1":    websocketHeader(protocolV4),
	} {
		code, body := w.do(admin, http.MethodGet, path, header)
		if code != http.StatusNotFound || !strings.Contains(body, "the container runtime gives no stream: 404") {
			t.Errorf("%s %v: %d %q", path, header, code, body)
		}
	}
	if w.server.streams.all != 0 {
		t.Errorf("%d streams are still counted", w.server.streams.all)
	}
}

func websocketHeader(protocol string) http.Header {
	return http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {protocol},
	}
}

// What the runtime answers other than a stream is told with its status; what makes no sense, as 500.
func TestRuntimeRefuses(t *testing.T) {
	w := newWorld(t, nil)
	admin := w.client(w.tls("admin"))
	for text, test := range map[string]struct {
		answer http.HandlerFunc
		code   int
	}{
		"no such protocol": {func(rw http.ResponseWriter, _ *http.Request) {
			http.Error(rw, "no such protocol", http.StatusForbidden)
		}, http.StatusForbidden},
		"200 OK": {func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "hello") }, http.StatusInternalServerError},
		"302 Found": {func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://127.0.0.1:1/", http.StatusFound)
		},
			http.StatusInternalServerError},
	} {
		t.Run(text, func(t *testing.T) {
			w.runtime.fixed = serveOnce(t, test.answer)
			for _, header := range []http.Header{spdyHeader(protocolV4), websocketHeader(protocolV4), websocketHeader(protocolV5)} {
				code, body := w.do(admin, http.MethodGet, "/exec/ns/web-0/main?command=both&output=1", header)
				if code != test.code || !strings.Contains(body, text) {
					t.Errorf("%v: %d %q", header, code, body)
				}
			}
		})
	}
}

// What a client sends ahead of the answer, and what the runtime sends together with its answer, arrives.
func TestJoinLosesNothing(t *testing.T) {
	w := newWorld(t, nil)
	const said = "before anybody asked"
	w.runtime.fixed = serveOnce(t, func(rw http.ResponseWriter, r *http.Request) {
		for key := range r.Header {
			if key != "User-Agent" && key != "Connection" && key != "Upgrade" && key != "X-Stream-Protocol-Version" && !strings.HasPrefix(key, "Sec-Websocket-") {
				t.Errorf("the runtime sees %s", key)
			}
		}
		if p := r.Header.Get("Sec-Websocket-Protocol"); p != protocolV4 {
			t.Errorf("the runtime sees protocols %q", p)
		}
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Mark: kept\r\n\r\n"+said)
		echo := make([]byte, len("ahead"))
		if _, err := io.ReadFull(conn, echo); err != nil {
			t.Error(err)
		}
		_, _ = conn.Write(echo)
	})
	conn, err := dialTLS(w)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	header := websocketHeader(protocolV4)
	header.Add("Sec-Websocket-Protocol", bearerProtocol+"c2VjcmV0")
	header.Set("Cookie", "secret")
	var ask strings.Builder
	fmt.Fprint(&ask, "GET /exec/ns/web-0/main?command=x&output=1 HTTP/1.1\r\nHost: x\r\n")
	if err := header.Write(&ask); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, ask.String()+"\r\nahead")
	all, err := io.ReadAll(conn)
	if text := string(all); err != nil || !strings.HasPrefix(text, "HTTP/1.1 101 ") || !strings.Contains(text, "X-Mark: kept\r\n") || !strings.HasSuffix(text, "\r\n\r\n"+said+"ahead") {
		t.Errorf("%q %v", text, err)
	}
}

// A client that goes in the middle takes its stream with it: what reads from it in the container ends,
// and nothing of it stays in the daemon.
func TestClientGoes(t *testing.T) {
	w := newWorld(t, nil)
	const path = "/exec/ns/web-0/main?command=hang&input=1&output=1"
	ended := func(t *testing.T) {
		t.Helper()
		select {
		case <-w.ended:
		case <-time.After(20 * time.Second):
			t.Fatal("it goes on in the container")
		}
		waitFor(t, "the end of the stream", func() bool {
			w.server.streams.mu.Lock()
			defer w.server.streams.mu.Unlock()
			return w.server.streams.all == 0
		})
	}
	for _, protocol := range []string{protocolV4, protocolV5} {
		t.Run(protocol, func(t *testing.T) {
			f := w.mustWebsocket(t, path, protocol)
			<-w.hanging
			f.ws.Close()
			ended(t)
		})
	}
	t.Run("SPDY", func(t *testing.T) {
		in, feed := io.Pipe()
		ctx, cancel := context.WithCancel(within(t))
		done := make(chan error, 1)
		go func() {
			done <- w.executors(path)["SPDY"].StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: io.Discard})
		}()
		<-w.hanging
		cancel()
		<-done
		feed.Close()
		ended(t)
	})
	for name, dialer := range w.forwarders(t) {
		t.Run("port by "+name, func(t *testing.T) {
			conn, _, err := dialer.Dial(forwardProtocol)
			if err != nil {
				t.Fatal(err)
			}
			open := func(kind string) (httpstream.Stream, error) {
				return conn.CreateStream(http.Header{"Port": {"82"}, "Requestid": {"1"}, "Streamtype": {kind}})
			}
			if _, err := open("error"); err != nil {
				t.Fatal(err)
			}
			data, err := open("data")
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len("port 82: "))
			if _, err := io.ReadFull(data, got); err != nil || string(got) != "port 82: " {
				t.Fatalf("%q %v", got, err)
			}
			conn.Close()
			ended(t)
		})
	}
	t.Run("port by WebSocket", func(t *testing.T) {
		f := w.mustWebsocket(t, "/portForward/ns/web-0?port=82", protocolV4)
		f.until(0, "port 82: ")
		f.ws.Close()
		ended(t)
	})
}

// A stream on which nothing moves ends; one on which something moves one way does not.
func TestIdleStreamEnds(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.IdleTimeout = 300 * time.Millisecond })
	for _, protocol := range []string{protocolV4, protocolV5} {
		f := w.mustWebsocket(t, "/exec/ns/web-0/main?command=hang&input=1&output=1", protocol)
		<-w.hanging
		for range 4 {
			time.Sleep(100 * time.Millisecond)
			f.send(chStdin, "x")
		}
		select {
		case <-w.ended:
			t.Errorf("%s: it was ended while something moved", protocol)
		default:
		}
		select {
		case <-w.ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: it is not ended", protocol)
		}
	}
}
