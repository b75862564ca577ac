package volumeplan

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"nodelet/internal/model"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Each file of testdata has pod.yaml, perhaps configs.yaml (objects separated
// by ---, "missing: true" for one that was looked up in vain) and
// allocatable.yaml, and the wanted plan with the content of the files.
func TestMakeGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := golden(t, ar)
			want := section(ar, "plan")
			if *update {
				ar.Files = append(ar.Files[:len(ar.Files)-1], txtar.File{Name: "plan", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatal(d)
			}
		})
	}
}

func golden(t *testing.T, ar *txtar.Archive) string {
	f := Facts{Pod: &corev1.Pod{}, Root: "/root"}
	parse(t, section(ar, "pod.yaml"), f.Pod)
	if s := section(ar, "allocatable.yaml"); s != "" {
		parse(t, s, &f.Allocatable)
	}
	configs := readConfigs(t, section(ar, "configs.yaml"))
	f.Config = func(k model.ConfigKey) (*model.Config, bool) { c, ok := configs[k]; return c, ok }
	p, err := Make(f)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	out := p.String()
	if strings.Contains(out, "s3cret") {
		t.Fatalf("a plan prints the content of a secret:\n%s", out)
	}
	for _, v := range p.Volumes {
		if v.Payload == nil {
			continue
		}
		for _, file := range v.Payload.Files {
			out += fmt.Sprintf("%s/%s: %q\n", v.Name, file.Path, file.Data)
		}
	}
	return out
}

func section(ar *txtar.Archive, name string) string {
	for _, f := range ar.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func parse(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

func readConfigs(t *testing.T, text string) map[model.ConfigKey]*model.Config {
	out := map[model.ConfigKey]*model.Config{}
	for doc := range strings.SplitSeq(text, "---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		var c struct {
			Kind, Name string
			Missing    bool
			Data       map[string]string
		}
		parse(t, doc, &c)
		key := model.ConfigKey{Key: model.Key{Namespace: "ns", Name: c.Name}}
		if c.Kind == "Secret" {
			key.Kind = model.Secret
		}
		cfg := &model.Config{ConfigKey: key, Missing: c.Missing, Data: map[string][]byte{}}
		for k, v := range c.Data {
			cfg.Data[k] = []byte(v)
		}
		out[key] = cfg
	}
	return out
}
