package embedded

import (
	"context"
	"errors"
	"fmt"

	"nodelet/cri"
)

// errExitsEnded says that containerd tells of no more exits.
var errExitsEnded = errors.New("containerd's events ended")

// Exits tells fn of each container whose first process ended, as soon as its shim says so, until ctx ends
// or containerd stops. CRI says so when the container was deleted, and runc has run for that.
func (s *Server) Exits(ctx context.Context, fn func(cri.Exit)) error {
	envelopes, errs := s.client.EventService().Subscribe(ctx, fmt.Sprintf("topic==%q", cri.ContainerdExitTopic))
	for {
		select {
		case envelope := <-envelopes:
			if envelope == nil || envelope.Event == nil {
				continue
			}
			exit, ok, err := cri.ContainerdExit(envelope.Namespace, envelope.Topic, envelope.Event.GetValue())
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
