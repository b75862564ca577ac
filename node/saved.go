package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// savedName is the file that remembers how the daemon was last started, so
// that down and reset clean up what it really made.
const savedName = "node.json"

// saveConfig remembers the configuration in the data directory, with all
// components that ever ran and all runtimes that were ever used: an earlier start may have had others.
func saveConfig(c Config) error {
	before, recorded, err := readConfig(c.Layout)
	if err != nil {
		return err
	}
	for _, p := range before.Components {
		if recorded && !c.Has(p) {
			c.Components = append(slices.Clone(c.Components), p)
		}
	}
	if recorded {
		c.PastRuntimes = before.runtimesUsed()
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	path := filepath.Join(c.Layout.Data, savedName)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("save configuration: %w", err)
	}
	return nil
}

// LoadConfig gives the configuration the daemon was last started with, with all
// components that ever ran. When it never was, the defaults, without the agent:
// its directories and cgroups are those of any kubelet, and without a record
// they are somebody else's. All other objects carry a mark of ours.
func LoadConfig(l Layout) (Config, error) {
	c, recorded, err := readConfig(l)
	if err == nil && !recorded {
		c.Components = slices.DeleteFunc(c.Components, func(p Component) bool { return p == Agent })
	}
	return c, err
}

// readConfig reads what saveConfig wrote; recorded is false when there is nothing.
func readConfig(l Layout) (c Config, recorded bool, err error) {
	c = Defaults()
	data, err := os.ReadFile(filepath.Join(l.Data, savedName))
	if err == nil {
		recorded = true
		err = json.Unmarshal(data, &c)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, recorded, fmt.Errorf("read saved configuration %s: %w (remove the file to go on with the defaults)", filepath.Join(l.Data, savedName), err)
	}
	c.Layout = l
	return c, recorded, nil
}
