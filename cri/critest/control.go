package critest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What a test does to the runtime from outside, and how it looks at it. None of it meets a fault.

// Exit ends a running container as if its process had exited; id may be a prefix.
func (s *Server) Exit(id string, code int32) {
	s.locked(func() {
		if c := s.findContainer(id); c != nil {
			s.exit(c, code, "")
		}
	})
}

// OOMKill ends a running container as the kernel does when memory runs out.
func (s *Server) OOMKill(id string) {
	s.locked(func() {
		if c := s.findContainer(id); c != nil {
			s.exit(c, sigkilled, "OOMKilled")
		}
	})
}

// KillSandbox ends a sandbox's own process; its containers go on, as they do with containerd unless
// they share its pid namespace.
func (s *Server) KillSandbox(id string) {
	s.locked(func() {
		if sb := s.findSandbox(id); sb != nil {
			s.failSandbox(sb)
		}
	})
}

// AddImage makes an image present.
func (s *Server) AddImage(name string) { s.locked(func() { s.addImage(name) }) }

// Reboot ends all containers and sandboxes at once, as a power cut and a new start do.
func (s *Server) Reboot() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.allContainers() {
		s.exit(c, 255, "Unknown") // containerd's words for a container whose shim is gone
	}
	for _, sb := range s.sandboxes {
		s.failSandbox(sb)
	}
	s.events.cut()
}

// Sandboxes are the statuses of all sandboxes, oldest first.
func (s *Server) Sandboxes() []*runtimev1.PodSandboxStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*runtimev1.PodSandboxStatus
	for _, sb := range byAge(s.sandboxes, func(sb *sandbox) (time.Time, string) { return sb.createdAt, sb.id }) {
		out = append(out, sb.status())
	}
	return out
}

// Announced is what a sandbox's pod as a whole was last said to have; nil: nothing was said.
func (s *Server) Announced(id string) (r *runtimev1.LinuxContainerResources) {
	s.locked(func() {
		if sb := s.findSandbox(id); sb != nil {
			r = sb.announced
		}
	})
	return r
}

// Containers are the statuses of all containers, oldest first.
func (s *Server) Containers() []*runtimev1.ContainerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*runtimev1.ContainerStatus
	for _, c := range s.allContainers() {
		out = append(out, c.status())
	}
	return out
}

// Calls are all calls so far, in the order of their answers.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Incidents are the things no agent should ever make happen: two running instances of a container,
// two ready sandboxes of a pod, containers killed without grace.
func (s *Server) Incidents() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.incidents)
}

func (s *Server) incident(format string, args ...any) {
	s.incidents = append(s.incidents, fmt.Sprintf(format, args...))
}

// String prints the whole state and the last calls: what a failing test shows.
func (s *Server) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, sb := range byAge(s.sandboxes, func(sb *sandbox) (time.Time, string) { return sb.createdAt, sb.id }) {
		m := sb.config.GetMetadata()
		fmt.Fprintf(&b, "sandbox %.8s %s attempt %d %s ip %q\n", sb.id, podKey(m), m.GetAttempt(), sb.state, sb.ip)
		for _, c := range s.containersOf(sb.id) {
			fmt.Fprintf(&b, "  container %.8s %s attempt %d %s", c.id, c.config.GetMetadata().GetName(), c.config.GetMetadata().GetAttempt(), c.state)
			if c.state == exited {
				fmt.Fprintf(&b, " code %d %s %s", c.exitCode, c.reason, c.message)
			}
			b.WriteByte('\n')
		}
	}
	for name, id := range s.names {
		if s.sandboxes[id] == nil && s.containers[id] == nil {
			fmt.Fprintf(&b, "reserved %s for %.8s\n", name, id)
		}
	}
	const shown = 30
	for _, c := range s.calls[max(0, len(s.calls)-shown):] {
		fmt.Fprintf(&b, "call %s %s", c.Op, c.Key)
		if c.Err != nil {
			fmt.Fprintf(&b, ": %v", c.Err)
		}
		b.WriteByte('\n')
	}
	for _, i := range s.incidents {
		fmt.Fprintf(&b, "incident: %s\n", i)
	}
	return b.String()
}
