package ebpf_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"nodelet/internal/model"
	nebpf "nodelet/proxy/ebpf"
	"nodelet/proxy/traffic"
)

// programs gives the program of each pinned link, by the link's kernel number.
func (n *labNode) programs() map[link.ID]ebpf.ProgramID {
	n.t.Helper()
	pins, err := filepath.Glob(filepath.Join(nebpf.Layout(n.back), "links", "*"))
	if err != nil || len(pins) < 8 {
		n.t.Fatalf("links %v, %v", pins, err)
	}
	out := map[link.ID]ebpf.ProgramID{}
	for _, pin := range pins {
		l, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		info, err := l.Info()
		if err != nil {
			n.t.Fatal(err)
		}
		out[info.ID] = info.Program
		if err := l.Close(); err != nil {
			n.t.Error(err)
		}
	}
	return out
}

// TestUpgrade: new daemons put their programs into the links that are there,
// under load: no packet of a flow is lost, and no connection.
func TestUpgrade(t *testing.T) {
	n := newNode(t, nodePortWorld)
	conns := []*traffic.Conn{
		n.dial("outside", model.UDP, "192.168.7.1:30053"), n.dial("a", model.UDP, "10.96.0.1:53"), n.dial("second", model.UDP, "[fd08::1]:30053"),
		n.dial("outside", model.TCP, "192.168.7.1:30080"), n.dial("b", model.TCP, "10.96.0.1:80"),
	}
	stop := make(chan struct{})
	type report struct{ asked, wrong int }
	reports := make(chan report)
	for _, c := range conns {
		go func() {
			var r report
			server := ""
			for {
				select {
				case <-stop:
					reports <- r
					return
				default:
				}
				// Nothing is asked twice: one packet that is lost is an error.
				got, err := c.Ask(5 * time.Second)
				if r.asked++; err != nil || got.Server == "" || server != "" && got.Server != server {
					r.wrong++
				}
				server = got.Server
			}
		}()
	}
	before := n.programs()
	for range 5 {
		n.open()
		n.apply("")
		after := n.programs()
		for id, p := range before {
			if now, same := after[id]; !same || now == p {
				t.Errorf("link %d had program %d, now %d (same link %t)", id, p, now, same)
			}
		}
		before = after
		n.asks(n.dial("outside", model.TCP, "192.168.7.1:30080"))
	}
	close(stop)
	asked := 0
	for range conns {
		r := <-reports
		if asked += r.asked; r.wrong > 0 {
			t.Errorf("%d of %d questions were lost or answered by another", r.wrong, r.asked)
		}
	}
	t.Logf("%d questions over 5 upgrades", asked)
}

// TestUpgradeOfLayout: maps that say something else cannot be taken over, which
// is said; connections that need none go on, UDP begins anew, the old is gone.
func TestUpgradeOfLayout(t *testing.T) {
	n := newNode(t, nodePortWorld)
	socket, udp := n.dial("node", model.TCP, "10.96.0.1:80"), n.dial("outside", model.UDP, "192.168.7.1:30053")
	server := n.asks(socket)
	n.asks(udp)
	before := n.programs()
	old := filepath.Join(filepath.Dir(nebpf.Layout(n.back)), "v0")
	if err := os.Rename(nebpf.Layout(n.back), old); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	n.cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	n.open()
	n.apply("")
	if !strings.Contains(said.String(), "cannot be taken over") || !strings.Contains(said.String(), old) {
		t.Errorf("the log says %q", said.String())
	}
	if got := n.asks(socket); got != server {
		t.Errorf("a balanced socket was answered by %s, now by %s", server, got)
	}
	n.asks(udp)
	n.asks(n.dial("outside", model.TCP, "192.168.7.1:30080"))
	for id := range before {
		if _, same := n.programs()[id]; !same {
			t.Errorf("link %d was not taken over", id)
		}
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the old maps: %v", err)
	}
}
