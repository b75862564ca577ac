package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mounted is a machine with cgroup2 mounted so. The option is one of the real machine for all its
// processes, so tests leave that alone; the VM test of systemd looks at a real one.
func mounted(t *testing.T, options string) dynamic {
	file := filepath.Join(t.TempDir(), "mountinfo")
	write := func(options string) error {
		return os.WriteFile(file, []byte("30 25 0:28 / /sys/fs/cgroup rw,nosuid,relatime shared:9 - cgroup2 cgroup2 "+options+"\n"), 0o600)
	}
	if err := write(options); err != nil {
		t.Fatal(err)
	}
	return dynamic{file, func(dir string, options []string) error {
		if dir != "/sys/fs/cgroup" {
			t.Errorf("reconfigures %s", dir)
		}
		return write("rw," + strings.Join(options, ","))
	}}
}

func (d dynamic) options(t *testing.T) []string {
	t.Helper()
	_, options, err := unifiedOptions(d.mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	return options
}

func TestTheOptionIsSetAndTakenBack(t *testing.T) {
	d := mounted(t, "rw,nsdelegate,memory_recursiveprot")
	marker, other := filepath.Join(t.TempDir(), "run", "marker"), filepath.Join(t.TempDir(), "other")
	if err := d.favor(marker); err != nil {
		t.Fatal(err)
	}
	if got := d.options(t); !slices.Equal(got, []string{"nsdelegate", "memory_recursiveprot", "favordynmods"}) {
		t.Errorf("options %v", got)
	}
	// Another daemon of the same machine finds it set, and so does not take it back.
	if err := errors.Join(d.favor(other), d.restore(other)); err != nil || !slices.Contains(d.options(t), favorDynMods) {
		t.Errorf("options %v: %v", d.options(t), err)
	}
	for range 2 { // the second time there is nothing to do
		if err := d.restore(marker); err != nil {
			t.Error(err)
		}
	}
	if got := d.options(t); !slices.Equal(got, []string{"nsdelegate", "memory_recursiveprot"}) {
		t.Errorf("options %v", got)
	}
}

func TestNothingIsNotedOfWhatWasNotDone(t *testing.T) {
	refused := mounted(t, "rw,nsdelegate")
	refused.reconfigure = func(string, []string) error { return errors.ErrUnsupported }
	ignored := mounted(t, "rw,nsdelegate")
	ignored.reconfigure = func(string, []string) error { return nil }
	for name, d := range map[string]dynamic{"refused": refused, "ignored": ignored} {
		marker := filepath.Join(t.TempDir(), "marker")
		if err := d.favor(marker); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(marker); err == nil {
			t.Errorf("%s: noted", name)
		}
	}
}

func TestWithoutCgroup2(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(file, []byte("41 31 0:38 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := dynamic{mountinfo: file}
	marker := filepath.Join(t.TempDir(), "marker")
	if err := d.favor(marker); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	// One that was noted before the machine booted another way.
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.restore(marker); err != nil {
		t.Error(err)
	}
}
