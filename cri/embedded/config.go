package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"nodelet/cri"
)

// Config says where containerd lives and what it uses. Paths are absolute.
type Config struct {
	Root  string // images, snapshots, metadata: survives a reboot
	State string // sockets, bundles, network namespaces: does not; on a tmpfs

	CNIConfDir string   // where the network configuration shows up; may be empty at start
	CNIBinDirs []string // where its plugins are

	Shim string // the containerd-shim-runc-v2 binary; it is copied below Root
	Runc string // the OCI runtime: a path, or a name to look up in PATH; empty: runc

	SystemdCgroup bool   // cgroup driver systemd instead of cgroupfs
	Snapshotter   string // "overlayfs", "native", or empty: overlayfs where it can be mounted
	RegistryDirs  string // hosts.toml tree; empty: /etc/containerd/certs.d
	MaxLogLine    int    // bytes after which a log line is split; 0: 16 KiB
}

// Deps are the seams of the server.
type Deps struct {
	Log     *slog.Logger
	Observe func(op string, took time.Duration, err error) // see cri.Deps
	Timeout time.Duration                                  // see cri.Deps
}

// Socket is where crictl and ctr find this containerd.
func (c Config) Socket() string { return filepath.Join(c.State, "containerd.sock") }

const (
	defaultRegistryDirs = "/etc/containerd/certs.d"
	defaultMaxLogLine   = 16 << 10

	// maxSocket is what containerd allows for its socket's path (the kernel: 107).
	maxSocket = 104 - len(ttrpcSuffix)
)

func (c Config) withDefaults() Config {
	if c.Runc == "" {
		c.Runc = "runc"
	}
	if c.RegistryDirs == "" {
		c.RegistryDirs = defaultRegistryDirs
	}
	if c.MaxLogLine == 0 {
		c.MaxLogLine = defaultMaxLogLine
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	for name, path := range map[string]string{"Root": c.Root, "State": c.State, "CNIConfDir": c.CNIConfDir, "Shim": c.Shim} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s %q is not an absolute path", name, path))
		}
	}
	for _, path := range c.CNIBinDirs {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("CNI plugin directory %q is not an absolute path", path))
		}
	}
	if c.Root == c.State {
		errs = append(errs, errors.New("root and state are the same directory"))
	}
	if len(c.Socket()) > maxSocket {
		errs = append(errs, fmt.Errorf("socket path %s has %d characters, the kernel allows %d: choose a shorter run directory",
			c.Socket(), len(c.Socket()), maxSocket))
	}
	switch c.Snapshotter {
	case "", overlayfs, native:
	default:
		errs = append(errs, fmt.Errorf("snapshotter %q is not built in: choose %s or %s", c.Snapshotter, overlayfs, native))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("check the configuration of the embedded containerd: %w", err)
	}
	return nil
}

// deps for the client.
func (d Deps) client() cri.Deps { return cri.Deps{Observe: d.Observe, Timeout: d.Timeout} }
