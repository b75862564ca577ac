package ebpf_test

import (
	"testing"

	"nodelet/internal/model"
	"nodelet/proxy/ebpf"
	"nodelet/proxy/traffic"
)

// TestMarked: the programs mark what they track where the daemon looks for it, and a daemon that finds flows
// of programs that knew of no marks makes up for them.
func TestMarked(t *testing.T) {
	n := newNode(t, nodePortWorld)
	kept := map[*traffic.Conn]string{}
	for from, to := range map[string]string{"outside": "192.168.7.1:30080", "second": "[fd08::1]:30080"} {
		c := n.dial(from, model.TCP, to)
		kept[c] = n.asks(c)
	}
	for _, to := range []string{"192.168.7.1:30053", "[fd07::1]:30053"} {
		c := n.dial("outside", model.UDP, to)
		kept[c] = n.asks(c)
	}
	if flows, missing := ebpf.Unmarked(t, n.back); flows < 4*4 || missing > 0 {
		t.Errorf("%d of %d flows have no mark", missing, flows)
	}
	if !n.back.Untouched(t.Context()) {
		t.Error("touched by nobody")
	}
	ebpf.ClearMarks(t, n.back)
	if n.back.Untouched(t.Context()) {
		t.Error("lost marks were not noticed")
	}
	n.open()
	n.apply("")
	if flows, missing := ebpf.Unmarked(t, n.back); flows == 0 || missing > 0 {
		t.Errorf("after a restart %d of %d flows have no mark", missing, flows)
	}
	if !n.back.Untouched(t.Context()) {
		t.Error("after a restart the marks are not complete")
	}
	for c, server := range kept {
		if got := n.asks(c); got != server {
			t.Errorf("%s -> %s is answered by %s, before by %s", c.LocalAddr(), c.RemoteAddr(), got, server)
		}
	}
}
