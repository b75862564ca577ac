// Package keeptest has what tests give to those who keep state in a file.
//
// Pure.
package keeptest

import (
	"encoding/json"
	"fmt"
	"maps"
	"sync"
)

// Memory keeps what is put as a file would, as JSON, so that what has no form in JSON is lost. Like the
// file it may be used by many at a time. The zero value is empty.
type Memory[V any] struct {
	mu   sync.Mutex
	rows map[string][]byte
}

// Put keeps a value.
func (m *Memory[V]) Put(key string, v V) error {
	raw, err := json.Marshal(v)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil {
		m.rows = map[string][]byte{}
	}
	m.rows[key] = raw
	return err
}

// Delete forgets a value.
func (m *Memory[V]) Delete(key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.rows, key)
	return nil
}

// Take gives what is kept, and forgets it.
func (m *Memory[V]) Take() map[string]V {
	m.mu.Lock()
	rows := m.rows
	m.rows = nil
	m.mu.Unlock()
	return decode[V](rows)
}

// All is what the next process finds.
func (m *Memory[V]) All() map[string]V {
	m.mu.Lock()
	rows := maps.Clone(m.rows)
	m.mu.Unlock()
	return decode[V](rows)
}

func decode[V any](rows map[string][]byte) map[string]V {
	all := map[string]V{}
	for key, raw := range rows {
		var v V
		if err := json.Unmarshal(raw, &v); err != nil {
			panic(fmt.Sprintf("read %s as it was kept: %v", key, err))
		}
		all[key] = v
	}
	return all
}
