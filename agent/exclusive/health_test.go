package exclusive

import (
	"strings"
	"testing"

	"nodelet/agent/exclusive/plugintest"
	"nodelet/internal/model"
)

// What a plugin says of its devices is seen in the grants of the pods that have them, and of no others;
// the plugin that goes takes their health with it.
func TestHealthOfDevices(t *testing.T) {
	w := newWorld(t, nil)
	p := w.plugin(&plugintest.Plugin{}, "a", "b")
	w.has("[{vendor.com/gpu 2 2}]")
	w.pod("one", gpu, "c=1")
	first := w.grant("one")
	w.pod("two", gpu, "c=1")
	second := w.grant("two")
	id := strings.TrimPrefix(first, "c "+gpu+"=")
	other := strings.TrimPrefix(second, "c "+gpu+"=")
	awaitGrants := func(one, two string) {
		t.Helper()
		w.await("grants "+one+" and "+two, func() bool {
			snap := w.store.Snapshot()
			a, _ := snap.Grants.Get(model.UID("one"))
			b, _ := snap.Grants.Get(model.UID("two"))
			return strings.HasSuffix(a.String(), "="+one) && strings.HasSuffix(b.String(), "="+two)
		})
	}
	p.Set([]string{other}, []string{id})
	awaitGrants(id+"(unhealthy)", other)
	p.Set([]string{id, other}, nil)
	awaitGrants(id, other)
	p.Stop()
	awaitGrants(id+"(unhealthy)", other+"(unhealthy)")
}
