package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream"
)

// A tunnelling client speaks SPDY inside of a WebSocket. The protocols of the tunnel and of what is in it:
const (
	tunnelProtocol  = "SPDY/3.1+portforward.k8s.io"
	forwardProtocol = "portforward.k8s.io"
	dialTimeout     = 30 * time.Second
)

// tunnel carries the bytes of a WebSocket to the runtime's SPDY server and back.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request, location *url.URL) {
	upstream, early, err := upgradeSPDY(r.Context(), location)
	if err != nil {
		s.deps.Log.Error("kubelet API: join a stream to the runtime", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer upstream.Close()
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
			done := make(chan struct{}, 2)
			go func() {
				_, _ = io.Copy(upstream, &idleConn{ws, ws, s.cfg.IdleTimeout})
				done <- struct{}{}
			}()
			go func() {
				_, _ = io.Copy(ws, early)
				done <- struct{}{}
			}()
			<-done // either side has ended: so has the other
			_, _ = ws.Close(), upstream.Close()
			<-done
		},
	}.ServeHTTP(w, r)
}

// idleConn gives each read a time of its own.
type idleConn struct {
	io.Reader
	conn interface{ SetReadDeadline(time.Time) error }
	idle time.Duration
}

// Read reads within the idle time.
func (c *idleConn) Read(p []byte) (int, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// upgradeSPDY connects to the runtime's streaming server and asks it to speak SPDY. What it may have
// said already is in the reader.
func upgradeSPDY(ctx context.Context, location *url.URL) (net.Conn, *bufio.Reader, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", location.Host)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the runtime: %w", err)
	}
	reader, err := func() (*bufio.Reader, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, location.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
		req.Header.Set(httpstream.HeaderUpgrade, "SPDY/3.1")
		req.Header.Set(httpstream.HeaderProtocolVersion, forwardProtocol)
		if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
			return nil, err
		}
		if err := req.Write(conn); err != nil {
			return nil, err
		}
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close() // an answer that switches protocols has none
		if resp.StatusCode != http.StatusSwitchingProtocols {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // only for the message
			return nil, fmt.Errorf("it answers %s: %s", resp.Status, strings.TrimSpace(string(text)))
		}
		return r, conn.SetDeadline(time.Time{})
	}()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask the runtime for a stream: %w", err), conn.Close())
	}
	return conn, reader, nil
}
