package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Where a runtime that is not ours looks for networks and plugins by custom.
const (
	foreignCNIConf = "/etc/cni/net.d"
	foreignCNIBin  = "/opt/cni/bin"
)

// cniConf is the directory of network configurations the runtime reads.
func (c *Config) cniConf() string {
	switch {
	case c.CNIConfDir != "":
		return c.CNIConfDir
	case c.RuntimeEndpoint != "":
		return foreignCNIConf
	}
	return c.Layout.CNIConf()
}

// cniBin is the directory of plugins the runtime executes.
func (c *Config) cniBin() string {
	switch {
	case c.CNIBinDir != "":
		return c.CNIBinDir
	case c.RuntimeEndpoint != "":
		return foreignCNIBin
	}
	return c.BinDir
}

// installPlugin puts nodelet-cni where a foreign runtime looks for plugins. It
// stands in for the loopback plugin too, which containerd before 2.0 needs,
// unless there is one.
func (c *Config) installPlugin() error {
	from, dir := filepath.Join(c.BinDir, "nodelet-cni"), c.cniBin()
	if dir == c.BinDir {
		return nil
	}
	program, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read CNI plugin: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory of CNI plugins: %w (name another with --cni-bin-dir)", err)
	}
	for name, replace := range map[string]bool{"nodelet-cni": true, "loopback": false} {
		to := filepath.Join(dir, name)
		have, err := os.ReadFile(to)
		if err == nil && (!replace || bytes.Equal(have, program)) {
			continue
		}
		// Renamed into place: the runtime may execute the old one at this moment.
		if err := os.WriteFile(to+".new", program, 0o755); err != nil {
			return fmt.Errorf("install CNI plugin: %w (name another directory with --cni-bin-dir)", err)
		}
		if err := os.Rename(to+".new", to); err != nil {
			return fmt.Errorf("install CNI plugin: %w", err)
		}
	}
	return nil
}

// installed lists the plugins that installPlugin has put somewhere.
func (c *Config) installed() []string {
	dir := c.cniBin()
	if dir == c.BinDir {
		return nil
	}
	ours, err := os.ReadFile(filepath.Join(dir, "nodelet-cni"))
	if err != nil {
		return nil
	}
	out := []string{filepath.Join(dir, "nodelet-cni")}
	if lo, err := os.ReadFile(filepath.Join(dir, "loopback")); err == nil && bytes.Equal(lo, ours) {
		out = append(out, filepath.Join(dir, "loopback"))
	}
	return out
}

func (c *Config) removeInstalled() error {
	var errs []error
	for _, path := range c.installed() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove CNI plugin: %w", err))
		}
	}
	return errors.Join(errs...)
}
