package node

import (
	"testing"

	"nodelet/dns"
	"nodelet/internal/model"
	"nodelet/internal/store"
	"nodelet/proxy"
)

// The memory of the start is given back only when all who take up the first lists have done so.
func TestIsUp(t *testing.T) {
	st, w := store.New()
	n := &Node{proxy: &proxy.Proxy{}, dns: &dns.DNS{}}
	expect := func(want bool, when string) {
		t.Helper()
		if got := n.isUp(st.Snapshot()); got != want {
			t.Errorf("%s: %t", when, got)
		}
	}
	expect(false, "at first")
	w.Services.Replace(map[model.Key]*model.Service{})
	w.Slices.Replace(map[model.Key]*model.Slice{})
	expect(false, "with lists alone")
	st.SetApplied(store.Proxy, 1)
	expect(false, "without DNS")
	st.SetApplied(store.DNS, 1)
	expect(true, "with all")
	n = &Node{}
	expect(true, "where neither runs")
}
