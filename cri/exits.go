package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	eventservice "github.com/containerd/containerd/api/services/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// ContainerdNamespace is where containerd's CRI plugin keeps the containers of pods.
const ContainerdNamespace = "k8s.io"

// ContainerdExitTopic is the topic of containerd's events of processes that ended.
const ContainerdExitTopic = "/tasks/exit"

// Exit is the end of a container's first process, as a runtime may tell of it before it says that the
// container has exited.
type Exit struct {
	// ContainerID is the container's, or a sandbox's.
	ContainerID string
	Code        int32
	At          time.Time
	// Unclear: why it ended only the runtime can tell, when it says that the container has exited.
	Unclear bool
}

// Exits tells fn of each container and sandbox whose first process ended, until ctx ends or the runtime goes
// away. CRI has no call for it: containerd of every version has an event service of its own beside CRI, on
// the same socket (containerd's api/services/events/v1). Other runtimes: ErrUnimplemented.
func (c *Client) Exits(ctx context.Context, fn func(Exit)) error {
	err := c.server.exits(ctx, fn)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return newError("Events/Subscribe", c.endpoint, err)
}

func (r *remote) exits(ctx context.Context, fn func(Exit)) error {
	stream, err := eventservice.NewEventsClient(r.conn).Subscribe(ctx, &eventservice.SubscribeRequest{
		Filters: []string{fmt.Sprintf("namespace==%q,topic==%q", ContainerdNamespace, ContainerdExitTopic)},
	})
	if err != nil {
		return err
	}
	for {
		envelope, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errStreamEnded
		}
		if err != nil {
			return err
		}
		exit, ok, err := ContainerdExit(envelope.GetNamespace(), envelope.GetTopic(), envelope.GetEvent().GetValue())
		if err != nil {
			return err
		}
		if ok {
			fn(exit)
		}
	}
}

func (l *local) exits(context.Context, func(Exit)) error {
	return status.Error(codes.Unimplemented, "the runtime is in this process")
}

// ContainerdExit reads an event of containerd's; ok is false for one that is not the end of a container of a
// pod: a command in a container has one, too.
func ContainerdExit(namespace, topic string, event []byte) (exit Exit, ok bool, err error) {
	if namespace != ContainerdNamespace || topic != ContainerdExitTopic {
		return Exit{}, false, nil
	}
	var e eventsapi.TaskExit
	if err := proto.Unmarshal(event, &e); err != nil {
		return Exit{}, false, fmt.Errorf("read containerd's event %s: %w", topic, err)
	}
	if e.GetID() != e.GetContainerID() || e.GetExitedAt() == nil {
		return Exit{}, false, nil
	}
	return Exit{ContainerID: e.GetContainerID(), Code: int32(e.GetExitStatus()), At: e.GetExitedAt().AsTime().Local()}, true, nil
}
