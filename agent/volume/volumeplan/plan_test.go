package volumeplan

import (
	"fmt"
	"iter"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/yaml"

	"nodelet/internal/golden"
	"nodelet/internal/model"
)

// Each file of testdata has pod.yaml, perhaps configs.yaml (objects separated
// by ---, "missing: true" for one that was looked up in vain) and
// allocatable.yaml, claims.yaml, drivers.yaml and bundles.yaml, and the wanted plan with the content of the files.
func TestMakeGolden(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) { c.Want("plan", plan(c)) })
}

func plan(c *golden.Case) string {
	t := c.T
	f := Facts{Pod: &corev1.Pod{}, Root: "/root"}
	parse(t, c.Section("pod.yaml"), f.Pod)
	if s := c.Section("allocatable.yaml"); s != "" {
		parse(t, s, &f.Allocatable)
	}
	configs := readConfigs(t, c.Section("configs.yaml"))
	f.Config = func(k model.ConfigKey) (*model.Config, bool) { c, ok := configs[k]; return c, ok }
	claims := readClaims(t, c.Section("claims.yaml"))
	f.Claim = func(k model.Key) (*model.Claim, bool) { c, ok := claims[k]; return c, ok }
	drivers := map[string]*storagev1.CSIDriver{}
	each(t, c.Section("drivers.yaml"), func(d *storagev1.CSIDriver) { drivers[d.Name] = d })
	f.Driver = func(name string) (*storagev1.CSIDriver, bool) { return drivers[name], true }
	bundles := map[model.Key]*model.TrustBundle{}
	each(t, c.Section("bundles.yaml"), func(b *model.TrustBundle) { bundles[b.Key()] = b })
	f.Bundles = func() (iter.Seq2[model.Key, *model.TrustBundle], bool) { return maps.All(bundles), len(bundles) > 0 }
	f.NodeName, f.NodeLabels = "node-1", map[string]string{"kubernetes.io/hostname": "node-1", "rack": "7"}
	f.Taken = func(k model.Key) string {
		if k.Name == "taken" {
			return "ns/other"
		}
		return ""
	}
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

func parse(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// each reads objects separated by ---.
func each[T any](t *testing.T, text string, fn func(*T)) {
	for doc := range strings.SplitSeq(text, "---\n") {
		if strings.TrimSpace(doc) != "" {
			o := new(T)
			parse(t, doc, o)
			fn(o)
		}
	}
}

func readClaims(t *testing.T, text string) map[model.Key]*model.Claim {
	out := map[model.Key]*model.Claim{}
	each(t, text, func(c *struct {
		Name, Problem string
		Missing       bool
		Claim         *corev1.PersistentVolumeClaim
		Volume        *corev1.PersistentVolume
	}) {
		key := model.Key{Namespace: "ns", Name: c.Name}
		out[key] = &model.Claim{Key: key, Missing: c.Missing, Problem: c.Problem, Claim: c.Claim, Volume: c.Volume}
	})
	return out
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
