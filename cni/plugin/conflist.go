package plugin

import (
	"encoding/json"
	"fmt"
)

// The versions the list offers: runtimes that know of cniVersions take the
// highest they speak, older ones (containerd 1.6) take cniVersion.
const oldVersion = "1.0.0"

func versions() []string { return []string{"1.0.0", "1.1.0"} }

// ConfList is the network configuration list with this one plugin, as text
// for the runtime's configuration directory.
func (c Config) ConfList() ([]byte, error) {
	type entry Config
	e := entry(c)
	e.Type, e.CNIVersion, e.Name = Type, "", ""
	e.Capabilities = map[string]bool{"portMappings": true, "bandwidth": true}
	list := struct {
		CNIVersion  string   `json:"cniVersion"`
		CNIVersions []string `json:"cniVersions"`
		Name        string   `json:"name"`
		Plugins     []entry  `json:"plugins"`
	}{oldVersion, versions(), c.Name, []entry{e}}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write network configuration list: %w", err)
	}
	return append(text, '\n'), nil
}
