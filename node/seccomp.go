package node

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"nodelet/cri/embedded"
)

// seccompFeatures is there where the kernel has seccomp.
const seccompFeatures = "/proc/sys/kernel/seccomp/actions_avail"

// foreignSeccomp makes the profile of sandboxes for a runtime that is not ours; empty where that must do
// with its own. A runtime on a kernel without seccomp takes its default profile for none, but no other.
func (c *Config) foreignSeccomp(log *slog.Logger) string {
	if _, err := os.Stat(seccompFeatures); err != nil {
		return ""
	}
	path := c.Layout.SandboxSeccomp()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), embedded.WriteSandboxSeccomp(path)); err != nil {
		log.Warn("go on with the runtime's own seccomp profile for sandboxes, which takes longer", "err", err)
		return ""
	}
	return path
}

// removeSeccomp removes it.
func (l Layout) removeSeccomp() error {
	if err := os.Remove(l.SandboxSeccomp()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// seccompResidue is what removeSeccomp would remove.
func (l Layout) seccompResidue() []string {
	if _, err := os.Stat(l.SandboxSeccomp()); err != nil {
		return nil
	}
	return []string{"file " + l.SandboxSeccomp()}
}
