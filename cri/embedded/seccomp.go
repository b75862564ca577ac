package embedded

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// SandboxSeccomp is the file with the seccomp profile for sandboxes. It is containerd's default, but for
// the machine's own instruction set only: calls of the others (32 bit) are not filtered but deadly. The
// sandbox's program is ours and makes none, and runc takes 8 ms less to compile the filter.
func (s *Server) SandboxSeccomp() string { return s.config.sandboxSeccomp() }

func (c Config) sandboxSeccomp() string { return filepath.Join(c.Root, "seccomp", "sandbox.json") }

func (c Config) writeSandboxSeccomp() error {
	profile := seccomp.DefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	profile.Architectures = nil // the OCI runtime's own
	content, err := json.Marshal(profile)
	if err == nil {
		err = writeFile(c.sandboxSeccomp(), bytes.NewReader(content))
	}
	if err != nil {
		return fmt.Errorf("write the seccomp profile of sandboxes: %w", err)
	}
	return nil
}
