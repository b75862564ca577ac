package logplan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nodelet/internal/golden"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func text(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString(s.String() + "\n")
	}
	return b.String()
}

// Each file of testdata has the names of a directory, "files", and the plan for 0.log, "plan".
func TestGoldens(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) {
		c.Want("plan", text(Make("0.log", strings.Fields(c.Section("files")), Policy{MaxSize: 1, MaxFiles: 5}, noon)))
	})
}

// apply does to names what the steps say.
func apply(t *rapid.T, files []string, steps []Step) []string {
	files = slices.Clone(files)
	drop := func(name string) {
		i := slices.Index(files, name)
		if i < 0 {
			t.Fatalf("%s is not there: %v", name, files)
		}
		files = slices.Delete(files, i, i+1)
	}
	for _, s := range steps {
		switch s := s.(type) {
		case Remove:
			drop(s.Name)
		case Compress:
			drop(s.Name)
			files = append(files, s.To)
		case Rotate:
			drop(s.Name)
			files = append(files, s.To, s.Name)
		}
	}
	return files
}

// However the clock jumps and wherever the daemon dies, names only grow, and no more files than
// allowed stay; other logs are left alone.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := Policy{MaxFiles: rapid.IntRange(2, 6).Draw(t, "files")}
		others := []string{"1.log", "1.log.20260101-000000", "0.log.not-ours", "0.logs"}
		files := append(slices.Clone(others), "0.log")
		now, last := noon, ""
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			now = now.Add(time.Duration(rapid.IntRange(-100, 100).Draw(t, "clock")) * time.Second)
			steps := Make("0.log", files, policy, now)
			rotate, ok := steps[0].(Rotate)
			if !ok || rotate.To <= last {
				t.Fatalf("%v after %s", steps, last)
			}
			cut := len(steps)
			if rapid.Bool().Draw(t, "dies") {
				cut = rapid.IntRange(0, len(steps)-1).Draw(t, "cut")
				if c, is := steps[cut].(Compress); is && rapid.Bool().Draw(t, "in the middle") {
					files = append(files, c.Tmp)
				}
			}
			if cut > 0 {
				last = rotate.To
			}
			files = apply(t, files, steps[:cut])
			if cut == len(steps) {
				mine := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return !Owned("0.log", f) })
				if len(mine) > policy.MaxFiles {
					t.Fatalf("%d files: %v", len(mine), mine)
				}
			}
			for _, o := range others {
				if !slices.Contains(files, o) {
					t.Fatalf("%s is gone", o)
				}
			}
		}
	})
}
