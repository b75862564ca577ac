package serve

import (
	"runtime"
	"testing"
	"time"
)

func TestMuchIsDoneWhenCollectionsAreClose(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		at   []time.Duration
		want bool // at the last of them
	}{
		"idle":                    {[]time.Duration{0, time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute}, false},
		"two that were asked for": {[]time.Duration{0, time.Second, 1500 * time.Millisecond}, false},
		"a burst":                 {[]time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}, true},
		"with a rest in it":       {[]time.Duration{0, time.Second, 2 * time.Second, 5 * time.Second, 6 * time.Second}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var r rhythm
			for i, at := range c.at {
				if got, want := r.working(begin.Add(at)), c.want && i == len(c.at)-1; got != want {
					t.Errorf("at %s: %t, want %t", at, got, want)
				}
			}
		})
	}
}

func TestEveryCollectionIsTold(t *testing.T) {
	collected := collections()
	for range 3 {
		runtime.GC()
		<-collected
	}
}
