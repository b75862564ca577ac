package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nodelet/proxy"
)

// switchedName is the file that remembers a mode that was switched to.
const switchedName = "proxy-mode.json"

// switchedMode is a mode that was switched to while the daemon ran. It holds
// as long as the flag says what it said then: a new flag is a new decision.
type switchedMode struct {
	Flag string `json:"flag"`
	Mode string `json:"mode"`
}

// proxyMode gives the mode to start with.
func (c *Config) proxyMode() string {
	var s switchedMode
	data, err := os.ReadFile(filepath.Join(c.Layout.Data, switchedName))
	if err != nil || json.Unmarshal(data, &s) != nil || s.Flag != c.ProxyMode || proxy.CheckMode(s.Mode) != nil {
		return c.ProxyMode
	}
	return s.Mode
}

func (c *Config) saveProxyMode(mode string) error {
	data, err := json.Marshal(switchedMode{Flag: c.ProxyMode, Mode: mode})
	if err != nil {
		return err
	}
	path := filepath.Join(c.Layout.Data, switchedName)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("remember the proxy mode: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("remember the proxy mode: %w", err)
	}
	return nil
}

var errWithoutProxy = errors.New("this daemon runs without the service proxy (--components)")

func (n *Node) proxyStatus() (proxy.Status, error) {
	if n.proxy == nil {
		return proxy.Status{}, errWithoutProxy
	}
	return n.proxy.Status(), nil
}

// switchProxy changes the mode, and remembers it for the next start.
func (n *Node) switchProxy(ctx context.Context, mode string) (proxy.Switched, error) {
	if n.proxy == nil {
		return proxy.Switched{}, errWithoutProxy
	}
	done, err := n.proxy.Switch(ctx, mode)
	if err != nil {
		return done, err
	}
	if err := n.cfg.saveProxyMode(done.To); err != nil {
		done.Steps = append(done.Steps, "a restart will not keep it: "+err.Error())
		return done, nil
	}
	done.Steps = append(done.Steps, "a restart keeps it, unless --proxy-mode is changed")
	return done, nil
}

// CleanupProxy removes what the service proxy has left in the kernel in any
// mode; with foreign also what an upstream kube-proxy has. The daemon must not run.
func CleanupProxy(ctx context.Context, l Layout, foreign bool) (removed []string, err error) {
	c, err := LoadConfig(l)
	if err != nil {
		return nil, err
	}
	removed, err = proxy.Cleanup(ctx, c.proxy())
	if !foreign || err != nil {
		return removed, err
	}
	theirs, err := proxy.CleanupForeign(ctx, 0)
	return append(removed, theirs...), err
}

// ForeignProxy names what an upstream kube-proxy has left in the kernel.
func ForeignProxy(ctx context.Context) ([]string, error) { return proxy.Foreign(ctx, 0) }
