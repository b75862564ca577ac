package serve

import (
	"io"
	"log/slog"
	"os"
	"testing"
	"time"
)

func TestTell(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &controlPlane{deps: Deps{Log: slog.New(slog.DiscardHandler), Ready: w, Now: time.Now}}
	c.tell("keys")
	c.tellReady()
	if data, err := io.ReadAll(r); err != nil || string(data) != "keys\nready\n" {
		t.Errorf("said %q %v", data, err)
	}
	r.Close()
}

// Whoever waited may have been killed: the start goes on.
func TestTellNobody(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	c := &controlPlane{deps: Deps{Log: slog.New(slog.DiscardHandler), Ready: w, Now: time.Now}}
	c.tell("keys")
	c.tellReady()
	(&controlPlane{}).tellReady() // nobody asked
}
