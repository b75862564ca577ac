package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream"
)

// A tunnelling client speaks SPDY inside of a WebSocket. The protocols of the tunnel and of what is in it:
const (
	tunnelProtocol  = "SPDY/3.1+portforward.k8s.io"
	forwardProtocol = "portforward.k8s.io"
)

// join hands the client's connection over to the runtime's streaming server, as it is: both speak the
// same protocol.
func (s *Server) join(w http.ResponseWriter, r *http.Request, location *url.URL) error {
	if !httpstream.IsUpgradeRequest(r) {
		return &refusal{http.StatusBadRequest, "you must request an upgrade of the connection: SPDY/3.1 or websocket"}
	}
	up, err := dial(r.Context(), location, r.Method, handshake(r.Header))
	if err != nil {
		return err
	}
	defer up.Close()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take over the client's connection: %w", err)
	}
	client := struct {
		io.Reader // what the client has sent ahead is in the buffer
		io.WriteCloser
	}{buffered, conn}
	defer client.Close()
	var answer strings.Builder
	fmt.Fprintf(&answer, "HTTP/1.1 %d %s\r\n", http.StatusSwitchingProtocols, http.StatusText(http.StatusSwitchingProtocols))
	if err := errors.Join(up.answer.Write(&answer), conn.SetWriteDeadline(time.Now().Add(dialTimeout))); err != nil {
		return nil //nolint:nilerr // the client is gone
	}
	if _, err := io.WriteString(client, answer.String()+"\r\n"); err != nil {
		return nil //nolint:nilerr // the client is gone
	}
	if err := conn.SetWriteDeadline(time.Time{}); err != nil {
		return nil //nolint:nilerr // the client is gone
	}
	splice(client, up, s.cfg.IdleTimeout)
	return nil
}

// bearerProtocol is how WebSocket clients that cannot set headers send a bearer token.
const bearerProtocol = "base64url.bearer.authorization.k8s.io."

// handshake is what the runtime must see of a client's header. Nothing of the client's identity is.
func handshake(h http.Header) http.Header {
	out := http.Header{}
	for _, key := range []string{
		httpstream.HeaderConnection, httpstream.HeaderUpgrade, httpstream.HeaderProtocolVersion,
		"Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions",
	} {
		if values := h.Values(key); len(values) > 0 {
			out[http.CanonicalHeaderKey(key)] = values
		}
	}
	var protocols []string
	for _, list := range h.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(list, ",") {
			if p = strings.TrimSpace(p); !strings.HasPrefix(p, bearerProtocol) {
				protocols = append(protocols, p)
			}
		}
	}
	if len(protocols) > 0 {
		out.Set("Sec-Websocket-Protocol", strings.Join(protocols, ", "))
	}
	return out
}

// tunnel carries the bytes in a WebSocket to the runtime's SPDY server and back.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request, location *url.URL) error {
	up, err := dial(r.Context(), location, http.MethodPost, spdyHeader(forwardProtocol))
	if err != nil {
		return err
	}
	defer up.Close()
	websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			if !slices.Contains(c.Protocol, tunnelProtocol) {
				return errors.New("the client does not offer " + tunnelProtocol)
			}
			c.Protocol = []string{tunnelProtocol}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			splice(ws, up, s.cfg.IdleTimeout)
		},
	}.ServeHTTP(w, r)
	return nil
}

// splice carries bytes both ways until either side ends or nothing has moved for the idle time, and
// then ends both sides: a stream without its client, or without its runtime, is over.
func splice(client, runtime io.ReadWriteCloser, idle time.Duration) {
	end := sync.OnceFunc(func() { _, _ = client.Close(), runtime.Close() })
	timer := time.AfterFunc(idle, end)
	defer timer.Stop()
	var ways sync.WaitGroup
	carry := func(to io.Writer, from io.Reader) {
		defer end()
		_, _ = io.Copy(to, readFunc(func(p []byte) (int, error) {
			n, err := from.Read(p)
			if n > 0 {
				timer.Reset(idle)
			}
			return n, err
		}))
	}
	ways.Go(func() { carry(runtime, client) })
	ways.Go(func() { carry(client, runtime) })
	ways.Wait()
}

// readFunc is a reader that is one function.
type readFunc func(p []byte) (int, error)

// Read calls the function.
func (f readFunc) Read(p []byte) (int, error) { return f(p) }
