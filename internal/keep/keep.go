package keep

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

const (
	// format is the version of the lines below the first one.
	format = 1
	// slack is how many lines more than twice its values a file may have.
	slack = 1000
)

// AnyBoot stands for a boot where values are true for longer.
const AnyBoot = "any"

// header is the first line of a file.
type header struct {
	Format int    `json:"format"`
	Boot   string `json:"boot"`
}

// line is one change: a value, or without one the end of a key.
type line struct {
	Key   string          `json:"k"`
	Value json.RawMessage `json:"v,omitempty"`
}

// File keeps values of one type. Its methods may be called from anywhere.
type File[V any] struct {
	path string
	boot string

	mu     sync.Mutex
	values map[string]json.RawMessage
	lines  int
	w      *os.File // nil: to be written anew
}

// Boot is the kernel's id of the time since the machine started, of /proc/sys/kernel/random/boot_id.
func Boot() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the id of this boot: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// Open reads what an earlier process has kept since this boot, and gives it with the file. Only a
// directory that cannot be made is an error: what cannot be read is as if it had never been kept.
func Open[V any](path, boot string) (*File[V], map[string]V, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, nil, fmt.Errorf("make directory to keep state in: %w", err)
	}
	f := &File[V]{path: path, boot: boot, values: map[string]json.RawMessage{}}
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, nil, nil //nolint:nilerr // see above; the next change writes the file anew
	}
	f.read(content)
	all := map[string]V{}
	for key, raw := range f.values {
		var v V
		if json.Unmarshal(raw, &v) != nil {
			delete(f.values, key)
			continue
		}
		all[key] = v
	}
	return f, all, nil
}

// read takes in the lines up to the first one that is not whole.
func (f *File[V]) read(content []byte) {
	first := true
	for raw := range bytes.Lines(content) {
		if first {
			var h header
			if json.Unmarshal(raw, &h) != nil || h.Format != format || h.Boot != f.boot {
				return
			}
			first = false
			continue
		}
		var l line
		if json.Unmarshal(raw, &l) != nil || raw[len(raw)-1] != '\n' {
			return
		}
		if l.Value == nil {
			delete(f.values, l.Key)
		} else {
			f.values[l.Key] = l.Value
		}
	}
}

// Put keeps a value; one that is kept already costs nothing. On an error the value is kept by the
// next change that can be written.
func (f *File[V]) Put(key string, v V) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode what is to be kept of %s: %w", key, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.values[key]; ok && f.w != nil && bytes.Equal(old, raw) {
		return nil
	}
	f.values[key] = raw
	return f.change(line{Key: key, Value: raw})
}

// Delete ends the keeping of a key.
func (f *File[V]) Delete(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.values[key]; !ok {
		return nil
	}
	delete(f.values, key)
	return f.change(line{Key: key})
}

// Close gives the descriptor back; what is kept stays.
func (f *File[V]) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.w == nil {
		return nil
	}
	w := f.w
	f.w = nil
	return w.Close()
}

// change appends one line, or writes all of the file; mu is held.
func (f *File[V]) change(l line) error {
	if f.w == nil || f.lines > 2*len(f.values)+slack {
		return f.rewrite()
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode what is to be kept of %s: %w", l.Key, err)
	}
	if _, err = f.w.Write(append(raw, '\n')); err == nil {
		err = f.sync()
	}
	if err != nil {
		_ = f.w.Close() // half a line may be there: the next change writes all anew
		f.w = nil
		return fmt.Errorf("keep state: %w", err)
	}
	f.lines++
	return nil
}

// rewrite replaces the file by one that has what is kept now; mu is held.
func (f *File[V]) rewrite() error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	if err := enc.Encode(header{Format: format, Boot: f.boot}); err != nil {
		return fmt.Errorf("encode what is to be kept: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(f.values)) {
		if err := enc.Encode(line{Key: key, Value: f.values[key]}); err != nil {
			return fmt.Errorf("encode what is to be kept of %s: %w", key, err)
		}
	}
	w, err := os.OpenFile(f.path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	old := f.w
	f.w = w
	if _, err = w.Write(text.Bytes()); err == nil {
		err = f.sync()
	}
	if err == nil {
		err = os.Rename(f.path+".tmp", f.path)
	}
	if err == nil {
		err = f.syncDir()
	}
	if old != nil {
		_ = old.Close() // of a file that is replaced, or will be
	}
	if err != nil {
		_ = w.Close() // its content is worth nothing
		f.w = nil
		return fmt.Errorf("keep state: %w", err)
	}
	f.lines = len(f.values)
	return nil
}

// sync sees to it that what is true for longer than this boot outlives a power cut.
func (f *File[V]) sync() error {
	if f.boot != AnyBoot {
		return nil
	}
	return f.w.Sync()
}

// syncDir does the same for the name of the file.
func (f *File[V]) syncDir() error {
	if f.boot != AnyBoot {
		return nil
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
