package golden

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what the code says into the golden files; look at the difference before you commit it")

// Case is one archive.
type Case struct {
	*testing.T
	archive *txtar.Archive
}

// Run runs check as a subtest for each archive that matches pattern; that there is none is a failure.
func Run(t *testing.T, pattern string, check func(*Case)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files match %s: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			before := string(txtar.Format(archive))
			check(&Case{T: t, archive: archive})
			if after := txtar.Format(archive); *update && string(after) != before {
				if err := os.WriteFile(file, after, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Section gives the text of a section, empty when the archive has none of that name.
func (c *Case) Section(name string) string {
	if f := c.find(name); f != nil {
		return string(f.Data)
	}
	return ""
}

// Sections names all sections, in order.
func (c *Case) Sections() []string {
	names := make([]string, len(c.archive.Files))
	for i, f := range c.archive.Files {
		names[i] = f.Name
	}
	return names
}

// Has tells whether the archive has a section.
func (c *Case) Has(name string) bool { return c.find(name) != nil }

// Want compares what the code says with a section, or with -update makes the section say that.
func (c *Case) Want(name, got string) {
	c.Helper()
	f := c.find(name)
	switch {
	case *update && f == nil:
		c.archive.Files = append(c.archive.Files, txtar.File{Name: name, Data: []byte(got)})
	case *update:
		f.Data = []byte(got)
	case f == nil:
		c.Errorf("there is no section %q; -update makes it:\n%s", name, got)
	default:
		if d := cmp.Diff(string(f.Data), got); d != "" {
			c.Errorf("%s differs (-want +got), see -update:\n%s", name, d)
		}
	}
}

// File compares what the code says with a whole file, or with -update writes it there.
func File(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("read what is wanted (-update makes it): %v", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (-want +got), see -update:\n%s", path, d)
	}
}

func (c *Case) find(name string) *txtar.File {
	for i := range c.archive.Files {
		if c.archive.Files[i].Name == name {
			return &c.archive.Files[i]
		}
	}
	return nil
}
