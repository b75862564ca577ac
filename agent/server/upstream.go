package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/streaming/pkg/httpstream"
)

// dialTimeout is how long the runtime has to take a connection, and to answer on it.
const dialTimeout = 30 * time.Second

// upstream is a connection to the runtime's streaming server that speaks the protocol asked for.
type upstream struct {
	net.Conn
	reader *bufio.Reader // what came together with the answer is in there
	answer http.Header
}

// Read reads what the runtime says after its answer.
func (u *upstream) Read(p []byte) (int, error) { return u.reader.Read(p) }

// spdyHeader asks for SPDY, and for one protocol in it.
func spdyHeader(protocol string) http.Header {
	return http.Header{
		httpstream.HeaderConnection:      {httpstream.HeaderUpgrade},
		httpstream.HeaderUpgrade:         {"SPDY/3.1"},
		httpstream.HeaderProtocolVersion: {protocol},
	}
}

// dial connects to the runtime's streaming server, never by a proxy of the environment, and asks for
// an upgrade. What the runtime refuses is a refusal: a token that was used or is too old with 404.
func dial(ctx context.Context, location *url.URL, method string, header http.Header) (*upstream, error) {
	conn, err := dialHost(ctx, location)
	if err != nil {
		return nil, fmt.Errorf("connect to the runtime's streaming server: %w", err)
	}
	up, err := upgrade(ctx, conn, location, method, header)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return up, nil
}

// dialHost connects to the host of an address; runtimes may serve streams by TLS.
func dialHost(ctx context.Context, location *url.URL) (net.Conn, error) {
	plain := &net.Dialer{Timeout: dialTimeout}
	host := location.Host
	if location.Scheme != "https" {
		if location.Port() == "" {
			host = net.JoinHostPort(location.Hostname(), "80")
		}
		return plain.DialContext(ctx, "tcp", host)
	}
	if location.Port() == "" {
		host = net.JoinHostPort(location.Hostname(), "443")
	}
	secure := tls.Dialer{NetDialer: plain, Config: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}}
	return secure.DialContext(ctx, "tcp", host)
}

// upgrade asks for an upgrade on a connection.
func upgrade(ctx context.Context, conn net.Conn, location *url.URL, method string, header http.Header) (*upstream, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, method, location.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the runtime for a stream: %w", err)
	}
	req.Header = header
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, fmt.Errorf("ask the runtime for a stream: %w", err)
	}
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("ask the runtime for a stream: %w", err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("read the runtime's answer to a stream: %w", err)
	}
	defer resp.Body.Close() // an answer that switches protocols has none
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, refusedBy(resp)
	}
	if !stop() {
		return nil, ctx.Err()
	}
	return &upstream{conn, r, resp.Header}, conn.SetDeadline(time.Time{})
}

// refusedBy is what the client is told when the runtime gives no stream.
func refusedBy(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // only for the message
	message := fmt.Sprintf("the container runtime gives no stream: %s: %s", resp.Status, strings.TrimSpace(string(text)))
	if resp.StatusCode < http.StatusBadRequest {
		return errors.New(message)
	}
	return &refusal{resp.StatusCode, message}
}
