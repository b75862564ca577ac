package cri

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// errStreamEnded stands for a stream that the runtime closed in good order: it is going away.
var errStreamEnded = status.Error(codes.Unavailable, "the runtime ended the event stream")

// Events is Runtime.Events.
func (c *Client) Events(ctx context.Context, fn func(*runtimev1.ContainerEventResponse)) error {
	const op = "GetContainerEvents"
	start := time.Now()
	err := c.server.events(ctx, fn)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errStreamEnded
	}
	err = newError(op, c.endpoint, err)
	c.deps.Observe(op, time.Since(start), err)
	return err
}
