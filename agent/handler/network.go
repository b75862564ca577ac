package handler

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxRedirects is net/http's own limit, which a policy of one's own replaces.
const maxRedirects = 10

// connect dials and lets the kernel forget the connection a second after it
// was closed: frequent probes would otherwise fill the table of those that
// wait to be forgotten, each for a minute.
func connect(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if tcp, ok := conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(1); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, err
}

// dial tries whether a connection can be made.
func dial(ctx context.Context, t Target, a *corev1.TCPSocketAction) Result {
	addr, err := t.address(a.Host, a.Port)
	if err != nil {
		return unknown("%v", err)
	}
	conn, err := connect(ctx, "tcp", addr)
	if err != nil {
		return failure("%v", err)
	}
	conn.Close()
	return Result{}
}

// transport makes one for a single run: nothing of it stays.
func transport() *http.Transport {
	return &http.Transport{
		DialContext:        connect,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, // the API promises that certificates are not verified
		DisableKeepAlives:  true,
		DisableCompression: true,
		// Headers beyond this are an error, not memory.
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// get makes the HTTP request of a probe and judges by the status code.
func (h *Handlers) get(ctx context.Context, t Target, a *corev1.HTTPGetAction, agent string) Result {
	req, err := request(ctx, t, a, agent)
	if err != nil {
		return unknown("%v", err)
	}
	status, body, err := do(req)
	switch {
	case err != nil:
		return failure("%v", err)
	case status >= 400 || status < 200:
		// Without the body: this text is shown to people who may not read what the server says.
		return failure("HTTP probe failed with statuscode: %d", status)
	case status >= 300:
		return Result{Message: fmt.Sprintf("Probe terminated redirects, Response body: %s", body), Odd: true}
	}
	return Result{Message: body}
}

// hookGet makes the HTTP request of a hook: any answer will do. A server that
// turns out not to speak TLS is asked again without, as upstream does.
func (h *Handlers) hookGet(ctx context.Context, t Target, a *corev1.HTTPGetAction) Result {
	req, err := request(ctx, t, a, "kube-lifecycle/"+h.cfg.Version)
	if err != nil {
		return failure("%v", err)
	}
	_, _, err = do(req)
	if err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		plain := *a
		plain.Scheme = corev1.URISchemeHTTP
		if req, err = request(ctx, t, &plain, "kube-lifecycle/"+h.cfg.Version); err == nil {
			req.Header.Del("Authorization")
			_, _, err = do(req)
		}
	}
	if err != nil {
		return failure("%v", err)
	}
	return Result{}
}

// request makes an HTTP request as a user wrote it.
func request(ctx context.Context, t Target, a *corev1.HTTPGetAction, agent string) (*http.Request, error) {
	addr, err := t.address(a.Host, a.Port)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(a.Path)
	if err != nil {
		u = &url.URL{Path: a.Path} // odd, but it has always been sent as it is
	}
	u.Scheme, u.Host = "http", addr
	if a.Scheme != "" {
		u.Scheme = strings.ToLower(string(a.Scheme))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make HTTP request: %w", err)
	}
	for _, header := range a.HTTPHeaders {
		req.Header.Add(header.Name, header.Value)
	}
	req.Host = req.Header.Get("Host")
	if _, given := req.Header["User-Agent"]; !given {
		req.Header.Set("User-Agent", agent)
	}
	// An empty one means: send none.
	if accept, given := req.Header["Accept"]; !given {
		req.Header.Set("Accept", "*/*")
	} else if accept[0] == "" {
		req.Header.Del("Accept")
	}
	return req, nil
}

// do sends a request and reads the answer's status and the beginning of its body.
func do(req *http.Request) (status int, body string, err error) {
	tr := transport()
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if next.URL.Hostname() != via[0].URL.Hostname() {
			return http.ErrUseLastResponse
		}
		if len(via) >= maxRedirects {
			return errors.New("stopped after 10 redirects")
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxOutput))
	return resp.StatusCode, string(raw), err
}
