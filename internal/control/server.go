package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// API is what the daemon answers with. Every value must be fit for JSON.
type API struct {
	Status    func() Status
	Revisions func() Revisions
	// Services and Endpoints list what the proxy knows; the text filters by namespace/name, empty means all.
	Services  func(filter string) ([]Service, error)
	Endpoints func(filter string) ([]Endpoint, error)
	// Proxy is the service proxy's status; SwitchProxy changes its mode.
	Proxy       func() (any, error)
	SwitchProxy func(ctx context.Context, mode string) (any, error)
	// Counters are what went through Services; the text filters as above.
	Counters func(filter string) (any, error)
	// Snapshot dumps one table of the store by name, for debugging.
	Snapshot func(table string) (any, error)
	// Timeline gives the steps of a pod, by namespace/name.
	Timeline func(pod string) (any, error)
	// Explain answers what happens to a packet.
	Explain func(ctx context.Context, question string) (any, error)
	// DNSWhy explains what a pod (namespace/name, or empty for the node itself) is answered for a name and type.
	DNSWhy func(ctx context.Context, q DNSQuestion) (any, error)
	// ListImages and ImportImages work on the container runtime.
	ListImages   func(ctx context.Context) ([]Image, error)
	ImportImages func(ctx context.Context, archive io.Reader) ([]string, error)
}

// Serve listens on the socket until ctx ends. A socket left by a daemon that
// was killed is replaced: the caller holds the lock of the run directory.
func Serve(ctx context.Context, path string, api API) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make directory for control socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stale control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen on control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return fmt.Errorf("restrict control socket: %w", err)
	}
	srv := &http.Server{Handler: handler(api), ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stopped()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}

func handler(api API) http.Handler {
	mux := http.NewServeMux()
	get := func(path string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			answer(w, v, err)
		})
	}
	get("/v1/status", func(*http.Request) (any, error) { return api.Status(), nil })
	get("/v1/rev", func(*http.Request) (any, error) { return api.Revisions(), nil })
	get("/v1/services", func(r *http.Request) (any, error) { return api.Services(r.FormValue("filter")) })
	get("/v1/endpoints", func(r *http.Request) (any, error) { return api.Endpoints(r.FormValue("filter")) })
	get("/v1/snapshot/{table}", func(r *http.Request) (any, error) { return api.Snapshot(r.PathValue("table")) })
	get("/v1/timeline", func(r *http.Request) (any, error) { return api.Timeline(r.FormValue("pod")) })
	get("/v1/explain", func(r *http.Request) (any, error) { return api.Explain(r.Context(), r.FormValue("question")) })
	get("/v1/dns/why", func(r *http.Request) (any, error) {
		if api.DNSWhy == nil {
			return nil, errors.New("this daemon runs without DNS")
		}
		return api.DNSWhy(r.Context(), DNSQuestion{Pod: r.FormValue("pod"), Name: r.FormValue("name"), Type: r.FormValue("type")})
	})
	get("/v1/images", func(r *http.Request) (any, error) { return api.ListImages(r.Context()) })
	get("/v1/proxy", func(*http.Request) (any, error) { return api.Proxy() })
	get("/v1/proxy/counters", func(r *http.Request) (any, error) { return api.Counters(r.FormValue("filter")) })
	mux.HandleFunc("POST /v1/proxy/switch", func(w http.ResponseWriter, r *http.Request) {
		done, err := api.SwitchProxy(r.Context(), r.FormValue("mode"))
		answer(w, done, err)
	})
	mux.HandleFunc("POST /v1/images", func(w http.ResponseWriter, r *http.Request) {
		names, err := api.ImportImages(r.Context(), r.Body)
		answer(w, names, err)
	})
	return mux
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone when this fails
}

// Client talks to a daemon by its socket.
type Client struct {
	path string
	http http.Client
}

// NewClient does not connect yet.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Get asks for one resource, such as "status", and decodes the answer.
func (c *Client) Get(ctx context.Context, resource string, into any) error {
	return c.call(ctx, http.MethodGet, resource, nil, into)
}

// Post sends a body and decodes the answer.
func (c *Client) Post(ctx context.Context, resource string, body io.Reader, into any) error {
	return c.call(ctx, http.MethodPost, resource, body, into)
}

func (c *Client) call(ctx context.Context, method, resource string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://nodelet/v1/"+resource, body)
	if err != nil {
		return fmt.Errorf("make request %s: %w", resource, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return errors.New(strings.TrimSpace(string(text)))
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read answer of the daemon: %w", err)
	}
	return nil
}

// explain says what an unreachable socket means.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), strings.Contains(err.Error(), "connection refused"):
		return fmt.Errorf("no nodelet daemon answers on %s: start it with 'nodelet up' or 'nodelet node', or pass its --run-dir", c.path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("open %s: permission denied: run as root", c.path)
	}
	return fmt.Errorf("talk to the daemon on %s: %w", c.path, err)
}
