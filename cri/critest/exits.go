package critest

import (
	"context"
	"slices"
	"time"

	"nodelet/cri"
)

// exitStream is somebody who is told of exits.
type exitStream struct{ queue chan cri.Exit }

// Exits tells fn of each container that ends, at once, until ctx ends; what happens before is not told.
func (s *Server) Exits(ctx context.Context, fn func(cri.Exit)) error {
	st := &exitStream{queue: make(chan cri.Exit, eventLimit)}
	s.locked(func() { s.exits = append(s.exits, st) })
	defer s.locked(func() { s.exits = slices.DeleteFunc(s.exits, func(o *exitStream) bool { return o == st }) })
	for {
		select {
		case e := <-st.queue:
			fn(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tellExit tells all who listen of a container that has ended; mu is held.
func (s *Server) tellExit(c *container) {
	for _, st := range s.exits {
		select {
		case st.queue <- cri.Exit{ContainerID: c.id, Code: c.ending.code, At: time.Unix(0, c.ending.at.UnixNano())}:
		default:
		}
	}
}
