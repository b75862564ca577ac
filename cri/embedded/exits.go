package embedded

import (
	"context"
	"errors"
	"fmt"

	eventsapi "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"google.golang.org/protobuf/proto"

	"nodelet/cri"
)

// errExitsEnded says that containerd tells of no more exits.
var errExitsEnded = errors.New("containerd's events ended")

// Exits tells fn of each container whose first process ended, as soon as its shim says so, until ctx ends
// or containerd stops. CRI says so when the container was deleted, and runc has run for that.
func (s *Server) Exits(ctx context.Context, fn func(cri.Exit)) error {
	envelopes, errs := s.client.EventService().Subscribe(ctx, `topic=="/tasks/exit"`)
	for {
		select {
		case envelope := <-envelopes:
			exit, ok, err := exitOf(envelope)
			if err != nil {
				return err
			}
			if ok {
				fn(exit)
			}
		case err := <-errs:
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err == nil:
				return errExitsEnded
			}
			return err
		}
	}
}

// exitOf reads an event; ok is false for one that is no container's end: a command in a container has one, too.
func exitOf(envelope *events.Envelope) (exit cri.Exit, ok bool, err error) {
	if envelope == nil || envelope.Event == nil || envelope.Namespace != namespace {
		return cri.Exit{}, false, nil
	}
	var e eventsapi.TaskExit
	if err := proto.Unmarshal(envelope.Event.GetValue(), &e); err != nil {
		return cri.Exit{}, false, fmt.Errorf("read containerd's event %s: %w", envelope.Topic, err)
	}
	if e.GetID() != e.GetContainerID() || e.GetExitedAt() == nil {
		return cri.Exit{}, false, nil
	}
	return cri.Exit{ContainerID: e.GetContainerID(), Code: int32(e.GetExitStatus()), At: e.GetExitedAt().AsTime().Local()}, true, nil
}
