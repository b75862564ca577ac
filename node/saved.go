package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// savedName is the file that remembers how the daemon was last started, so
// that down and reset clean up what it really made.
const savedName = "node.json"

// saveConfig remembers the configuration in the data directory.
func saveConfig(c Config) error {
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

// LoadConfig gives the configuration the daemon was last started with, or the
// defaults for that layout when it never was.
func LoadConfig(l Layout) (Config, error) {
	c := Defaults()
	data, err := os.ReadFile(filepath.Join(l.Data, savedName))
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, fmt.Errorf("read saved configuration %s: %w (remove the file to go on with the defaults)", filepath.Join(l.Data, savedName), err)
	}
	c.Layout = l
	return c, nil
}
