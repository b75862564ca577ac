package node

import (
	"log/slog"
	"testing"
)

func TestVerbosity(t *testing.T) {
	c := Config{Level: &slog.LevelVar{}}
	set := c.verbosity()
	for v, want := range []slog.Level{slog.LevelInfo, slog.LevelInfo, slog.LevelInfo, slog.LevelInfo, slog.LevelDebug, slog.LevelDebug} {
		if set(v); c.Level.Level() != want {
			t.Errorf("-v %d logs from %s on, want %s", v, c.Level.Level(), want)
		}
	}
	c.Kubelet.NoVerbosity = true
	if c.verbosity() != nil {
		t.Error("enableDebugFlagsHandler: false changes nothing")
	}
}
