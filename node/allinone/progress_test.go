package allinone

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestProgressReachesWhoWaits(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := NewProgress(w)
	p.Done("first %d", 1)
	p.Failed("start", errors.New("port 6443 is in use"))
	p.Done("nobody hears this") // the report has ended; the daemon must not mind
	var seen []string
	last, ok := Follow(r, func(s Step) { seen = append(seen, s.String()) })
	if !ok || last.Error != "port 6443 is in use" || len(seen) != 2 || !strings.Contains(seen[0], "first 1") {
		t.Fatalf("last %+v %t, seen %q", last, ok, seen)
	}
}

func TestFollowTellsADeadDaemonFromAFinishedOne(t *testing.T) {
	r, w := io.Pipe()
	go func() {
		p := NewProgress(w)
		p.Done("first")
		_ = w.Close() // killed
	}()
	if _, ok := Follow(r, func(Step) {}); ok {
		t.Fatal("a daemon that died counts as up")
	}
}

func TestProgressWithoutListener(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	p := NewProgress(w)
	p.Done("the listener was killed")
	p.Complete("up all the same")
	NewProgress(nil).Done("in the foreground")
}
