package critest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// reserve takes name and derives the id from it; a taken name is refused in containerd's words.
func (s *Server) reserve(kind, name string) (id string, err error) {
	if holder, taken := s.names[name]; taken {
		return "", unknown("failed to reserve %s name %q: name %q is reserved for %q", kind, name, name, holder)
	}
	s.issued[name]++
	sum := sha256.Sum256([]byte(name + "#" + strconv.Itoa(s.issued[name])))
	id = hex.EncodeToString(sum[:])
	s.names[name] = id
	return id, nil
}

// release gives id's name back.
func (s *Server) release(id string) {
	for name, holder := range s.names {
		if holder == id {
			delete(s.names, name)
		}
	}
}

// sandboxName and containerName are built as containerd builds them: reservation is by these.
func sandboxName(m *runtimev1.PodSandboxMetadata) string {
	return strings.Join([]string{m.GetName(), m.GetNamespace(), m.GetUid(), fmt.Sprint(m.GetAttempt())}, "_")
}

func containerName(c *runtimev1.ContainerMetadata, p *runtimev1.PodSandboxMetadata) string {
	return strings.Join([]string{c.GetName(), p.GetName(), p.GetNamespace(), p.GetUid(), fmt.Sprint(c.GetAttempt())}, "_")
}

// podKey and containerKey name objects in faults, calls and dumps.
func podKey(m *runtimev1.PodSandboxMetadata) string {
	return m.GetNamespace() + "/" + m.GetName()
}

func (s *Server) sandboxKey(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sb := s.findSandbox(id); sb != nil {
		return podKey(sb.config.GetMetadata())
	}
	return id
}

func (s *Server) containerKey(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.findContainer(id); c != nil {
		return c.key()
	}
	return id
}

// findSandbox and findContainer accept a unique prefix of the id, as containerd does.
func (s *Server) findSandbox(id string) *sandbox { return find(s.sandboxes, id) }

func (s *Server) findContainer(id string) *container { return find(s.containers, id) }

func find[T any](objects map[string]*T, id string) *T {
	if o := objects[id]; o != nil || id == "" {
		return o
	}
	var found *T
	for full, o := range objects {
		if strings.HasPrefix(full, id) {
			if found != nil {
				return nil
			}
			found = o
		}
	}
	return found
}
