package nodeconfig

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nodelet/internal/golden"
	"nodelet/node"
)

func kinds() map[string]Kind { return map[string]Kind{"kubelet": Kubelet(), "proxy": Proxy()} }

// Every field of upstream's types is in the table, once, and nothing else is.
func TestEveryFieldHasAFate(t *testing.T) {
	for _, k := range kinds() {
		seen := map[string]bool{}
		for _, f := range k.fields {
			fates := 0
			for _, has := range []bool{f.flag != "", f.set != nil, f.why != ""} {
				if has {
					fates++
				}
			}
			if fates != 1 || seen[f.path] {
				t.Errorf("%s: %s has %d fates, or is listed twice", k, f.path, fates)
			}
			seen[f.path] = true
		}
		for _, p := range k.paths() {
			if !seen[p] {
				t.Errorf("%s: %s is in no table", k, p)
			}
			delete(seen, p)
		}
		for p := range seen {
			t.Errorf("%s has no field %s", k, p)
		}
	}
}

// The documentation says what the code does.
func TestDocumentedTables(t *testing.T) {
	const path = "../../docs/configuration.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range kinds() {
		begin, end := "<!-- "+name+" fields -->\n", "<!-- end of "+name+" fields -->"
		_, rest, ok := strings.Cut(string(text), begin)
		have, _, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s: no marks for %s", path, name)
		}
		if want := Table(k); have != want {
			if os.Getenv("UPDATE_DOCS") == "" {
				t.Errorf("%s differs from the table of %s (UPDATE_DOCS=1 go test ./node/nodeconfig writes it):\n%s", path, name, cmp.Diff(want, have))
				continue
			}
			text = []byte(strings.Replace(string(text), begin+have+end, begin+want+end, 1))
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Cases have files named <kind>/<file> in their order, and what comes of them.
func TestMapGolden(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) {
		for name, kind := range kinds() {
			var files []File
			for _, file := range []string{"base.yaml", "10.conf", "20.conf"} {
				if c.Has(name + "/" + file) {
					files = append(files, File{file, []byte(c.Section(name + "/" + file))})
				}
			}
			if len(files) > 0 {
				c.Want(name+".out", outcome(kind, files))
			}
		}
	})
}

func outcome(kind Kind, files []File) string {
	d, err := Merge(kind, files)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	settings, ignored, err := Map(d)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	var cfg node.Config
	for _, s := range settings {
		if s.Flag != "" {
			fmt.Fprintf(&b, "%s: %s: --%s=%s\n", s.From, s.Field, s.Flag, s.Value)
			continue
		}
		if err := s.Apply(&cfg); err != nil {
			fmt.Fprintf(&b, "%s: %s: error: %v\n", s.From, s.Field, err)
			continue
		}
		fmt.Fprintf(&b, "%s: %s: %s\n", s.From, s.Field, s.Value)
	}
	for _, i := range ignored {
		b.WriteString(i.String() + "\n")
	}
	printSet(&b, "Kubelet", reflect.ValueOf(cfg.Kubelet))
	printSet(&b, "Resources", reflect.ValueOf(cfg.Resources))
	return b.String()
}

// printSet prints the fields of a struct that have a value, a line each.
func printSet(b *strings.Builder, name string, v reflect.Value) {
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() {
			fmt.Fprintf(b, "%s.%s: %v\n", name, v.Type().Field(i).Name, reflect.Indirect(f))
		}
	}
}

// A gate has one fate; those that cannot be turned off upstream are features that are on here.
func TestGatesHaveOneFate(t *testing.T) {
	seen := map[string]bool{}
	for _, list := range []string{gatesOn, gatesOff, gatesElsewhere} {
		for name := range strings.FieldsSeq(list) {
			if seen[name] {
				t.Errorf("%s is in two lists, or twice in one", name)
			}
			seen[name] = true
		}
	}
	for name := range strings.FieldsSeq(gatesLocked) {
		if !slices.Contains(strings.Fields(gatesOn), name) {
			t.Errorf("%s is locked and not on", name)
		}
	}
}
