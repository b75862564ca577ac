package deviceplan

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

func ids(text string) map[string]bool {
	out := map[string]bool{}
	for _, id := range strings.Fields(text) {
		out[id] = true
	}
	return out
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name                     string
		need                     int
		healthy, used, reusable  string
		preferred, want, problem string
	}{
		{name: "in order", need: 2, healthy: "a b c", used: "a", want: "b c"},
		{name: "as the plugin prefers", need: 2, healthy: "a b c d", preferred: "d c a", want: "c d"},
		{name: "a preference that is not there", need: 1, healthy: "a b", used: "b", preferred: "b z", want: "a"},
		{name: "too few preferred", need: 3, healthy: "a b c", preferred: "c", want: "a b c"},
		{name: "what the init container had", need: 2, healthy: "a b c", used: "b", reusable: "b", preferred: "c", want: "b c"},
		{name: "a broken one is not reused", need: 1, healthy: "a", used: "b", reusable: "b", want: "a"},
		{name: "too few", need: 2, healthy: "a b", used: "a", problem: "requested number of devices unavailable for v.com/x. Requested: 2, Available: 1"},
		{name: "none healthy", need: 1, problem: "no healthy devices present; cannot allocate unhealthy devices v.com/x"},
	} {
		offer, err := Request{Resource: "v.com/x", Need: c.need, Known: true, Healthy: ids(c.healthy), Used: ids(c.used), Reusable: ids(c.reusable)}.Check()
		if err != nil || c.problem != "" {
			if err == nil || err.Error() != c.problem {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if got := strings.Join(offer.Choose(strings.Fields(c.preferred)), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if _, err := (Request{Resource: "v.com/x", Need: 1}).Check(); err == nil || err.Error() != "cannot allocate unregistered device v.com/x" {
		t.Error(err)
	}
}

// TestChooseLaws: whatever a plugin prefers, exactly what is needed is chosen, healthy and free or reusable.
func TestChooseLaws(t *testing.T) {
	some := rapid.MapOf(rapid.StringMatching("[a-h]"), rapid.Just(true))
	rapid.Check(t, func(r *rapid.T) {
		q := Request{Known: true, Need: rapid.IntRange(1, 5).Draw(r, "need"), Healthy: some.Draw(r, "healthy"), Used: some.Draw(r, "used"), Reusable: some.Draw(r, "reusable")}
		offer, err := q.Check()
		if err != nil {
			return
		}
		got := offer.Choose(rapid.SliceOf(rapid.StringMatching("[a-j]")).Draw(r, "preferred"))
		if len(got) != q.Need || len(slices.Compact(slices.Clone(got))) != q.Need {
			r.Fatalf("%d needed, chosen %v", q.Need, got)
		}
		for _, id := range got {
			if !q.Healthy[id] || q.Used[id] && !q.Reusable[id] {
				r.Fatalf("%s of %+v", id, q)
			}
		}
	})
}

func TestAsks(t *testing.T) {
	c := &corev1.Container{Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{}}}
	for _, name := range []string{"cpu", "hugepages-2Mi", "kubernetes.io/x", "node.kubernetes.io/x", "v.com/x", "requests.v.com/x"} {
		c.Resources.Limits[corev1.ResourceName(name)] = resource.MustParse("2")
	}
	c.Resources.Limits["v.com/none"] = resource.MustParse("0")
	if got := Asks(&corev1.Pod{}, c); len(got) != 1 || got["v.com/x"] != 2 {
		t.Errorf("%v", got)
	}
}
