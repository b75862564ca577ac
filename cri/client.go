package cri

import (
	"context"
	"fmt"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// DefaultTimeout bounds a call that brings no time-out of its own. It is the kubelet's
// runtimeRequestTimeout: creating a sandbox on a busy disk may take most of it.
const DefaultTimeout = 2 * time.Minute

// Deps are the seams of a Client. The zero value is usable.
type Deps struct {
	// Observe is told of every finished call: kubelet_runtime_operations_* are made of it.
	Observe func(op string, took time.Duration, err error)
	// Timeout replaces DefaultTimeout when positive.
	Timeout time.Duration
}

// Client is a Runtime. Construct it with Dial or InProcess.
type Client struct {
	endpoint string
	server   server
	deps     Deps
	close    func() error
}

var _ Runtime = (*Client)(nil)

// server is what the ways to a runtime have in common. The generated servers have these methods
// already; for a socket remote adds them to the generated clients.
type server interface {
	Sandboxes
	Containers
	Streams
	Stats
	Images
	Version(context.Context, *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error)
	Status(context.Context, *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error)
	RuntimeConfig(context.Context, *runtimev1.RuntimeConfigRequest) (*runtimev1.RuntimeConfigResponse, error)
	UpdateRuntimeConfig(context.Context, *runtimev1.UpdateRuntimeConfigRequest) (*runtimev1.UpdateRuntimeConfigResponse, error)
	events(ctx context.Context, fn func(*runtimev1.ContainerEventResponse)) error
	exits(ctx context.Context, fn func(Exit)) error
}

func newClient(endpoint string, s server, deps Deps) *Client {
	if deps.Timeout <= 0 {
		deps.Timeout = DefaultTimeout
	}
	if deps.Observe == nil {
		deps.Observe = func(string, time.Duration, error) {}
	}
	return &Client{endpoint: endpoint, server: s, deps: deps, close: func() error { return nil }}
}

// Endpoint names the runtime for messages.
func (c *Client) Endpoint() string { return c.endpoint }

// Close gives up the connection. Calls under way fail.
func (c *Client) Close() error { return c.close() }

// WaitReady asks for the version until the runtime answers or ctx ends; the error is then the
// runtime's last one.
func (c *Client) WaitReady(ctx context.Context) error {
	const pause = 100 * time.Millisecond // a runtime starts in 30 ms to some seconds
	for {
		_, err := c.Version(ctx, &runtimev1.VersionRequest{})
		if err == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for the container runtime: %w", err)
		case <-timer.C:
		}
	}
}

// unlimited as a time-out leaves a call's duration to the caller's context.
const unlimited = time.Duration(-1)

// call runs one RPC: with a deadline, measured, and with its error made readable.
func call[Req, Resp any](ctx context.Context, c *Client, rpc rpc[Req, Resp], req Req) (Resp, error) {
	timeout := c.deps.Timeout
	if rpc.timeout != 0 {
		timeout = rpc.timeout
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	start := time.Now()
	resp, err := rpc.do(ctx, req)
	if err != nil {
		err = newError(rpc.op, c.endpoint, err)
	}
	c.deps.Observe(rpc.op, time.Since(start), err)
	return resp, err
}

// rpc is one remote procedure: its name, how it is called, and its time-out (0: the default).
type rpc[Req, Resp any] struct {
	op      string
	do      func(context.Context, Req) (Resp, error)
	timeout time.Duration
}
