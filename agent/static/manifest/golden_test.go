package manifest

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"nodelet/internal/golden"
)

// What becomes of each manifest: the pod as the agent gets it, what is said in vain, what is wrong.
func TestParse(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) {
		pod, warnings, err := Parse([]byte(c.Section("manifest")), Origin{Node: "Node-1", Source: File, Place: "/m/" + c.Name()})
		var out strings.Builder
		for _, w := range warnings {
			out.WriteString("warning: " + w + "\n")
		}
		if err != nil {
			out.WriteString("error: " + err.Error() + "\n")
		} else {
			text, err := yaml.Marshal(pod)
			if err != nil {
				c.Fatal(err)
			}
			out.Write(text)
		}
		c.Want("want", out.String())
	})
}

// The UID follows from what the manifest means, where it is and on which node.
func TestUIDTellsVersions(t *testing.T) {
	at := Origin{Node: "n", Source: File, Place: "/m/a.yaml"}
	uid := func(text string, o Origin) string {
		t.Helper()
		pod, _, err := Parse([]byte(text), o)
		if err != nil {
			t.Fatal(err)
		}
		if len(pod.UID) != 32 {
			t.Errorf("UID %q", pod.UID)
		}
		return string(pod.UID)
	}
	const text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n"
	same := uid(text, at)
	if got := uid("# a comment\n"+strings.ReplaceAll(text, "metadata: {name: a}", "metadata:\n  name: a"), at); got != same {
		t.Errorf("a comment changed the UID: %s, %s", same, got)
	}
	elsewhere, other := at, at
	elsewhere.Place, other.Node = "/m/b.yaml", "m"
	for what, got := range map[string]string{
		"image": uid(strings.Replace(text, "image: i", "image: j", 1), at), "place": uid(text, elsewhere), "node": uid(text, other),
	} {
		if got == same {
			t.Errorf("another %s gives the same UID", what)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n")
	f.Add("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {volumes: [{name: v, hostPath: {}}], containers: [{name: c, image: i, livenessProbe: {}}]}")
	f.Fuzz(func(t *testing.T, text string) {
		pod, _, err := Parse([]byte(text), Origin{Node: "n", Source: File, Place: "p"})
		if (pod == nil) == (err == nil) {
			t.Errorf("pod %v, error %v", pod, err)
		}
	})
}
