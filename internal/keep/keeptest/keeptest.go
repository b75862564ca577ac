// Package keeptest has what tests give to those who keep state in a file.
//
// Pure.
package keeptest

import (
	"encoding/json"
	"fmt"
)

// Memory keeps what is put as a file would, as JSON, so that what has no form in JSON is lost.
type Memory[V any] map[string][]byte

// Put keeps a value.
func (m Memory[V]) Put(key string, v V) error {
	raw, err := json.Marshal(v)
	m[key] = raw
	return err
}

// Delete forgets a value.
func (m Memory[V]) Delete(key string) error {
	delete(m, key)
	return nil
}

// All is what the next process finds.
func (m Memory[V]) All() map[string]V {
	all := map[string]V{}
	for key, raw := range m {
		var v V
		if err := json.Unmarshal(raw, &v); err != nil {
			panic(fmt.Sprintf("read %s as it was kept: %v", key, err))
		}
		all[key] = v
	}
	return all
}
