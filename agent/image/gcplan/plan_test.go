package gcplan

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return noon.Add(-d) }

func facts() Facts {
	return Facts{
		Now: noon, Began: ago(24 * time.Hour), Policy: Policy{High: 85, Low: 80, MinAge: 2 * time.Minute}, Capacity: 1000, Available: 150,
		Images: []Image{
			{ID: "new", Seen: ago(time.Minute)},
			{ID: "pinned", Pinned: true, Seen: ago(20 * time.Hour)},
			{ID: "running", InUse: true, Seen: ago(20 * time.Hour), Used: noon},
			{ID: "never", Seen: ago(2 * time.Hour)},
			{ID: "lately", Seen: ago(20 * time.Hour), Used: ago(time.Hour)},
			{ID: "long", Seen: ago(21 * time.Hour), Used: ago(10 * time.Hour)},
		},
	}
}

func TestMake(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Facts)
		want   string
	}{
		{"over the high threshold", func(*Facts) {}, "85% used need 50 of long never lately"},
		{"below", func(f *Facts) { f.Available = 160 }, "84% used"},
		{"old ones whatever the use", func(f *Facts) { f.Available, f.Policy.MaxAge = 900, 90*time.Minute }, "10% used old long old never"},
		{"old ones, and then more", func(f *Facts) { f.Policy.MaxAge = 5 * time.Hour }, "85% used old long need 50 of never lately"},
		{"ages are not known yet", func(f *Facts) { f.Available, f.Policy.MaxAge, f.Began = 900, 90*time.Minute, ago(time.Minute) }, "10% used"},
		{"all", func(f *Facts) { f.Available, f.All = 900, true }, "10% used need 1000 of long never lately"},
		{"more free than there is", func(f *Facts) { f.Available = 5000 }, "0% used"},
		{"enough free on a big disk", func(f *Facts) { f.Policy.HighFree, f.Policy.LowFree = 150, 160 }, "85% used"},
		{"little free on a big disk", func(f *Facts) { f.Policy.HighFree, f.Policy.LowFree = 151, 160 }, "85% used need 10 of long never lately"},
		{"no size", func(f *Facts) { f.Capacity = 0 }, "0% used"},
	} {
		f := facts()
		test.change(&f)
		if got := Make(f).String(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := facts().Policy.Check(); err != nil {
		t.Error(err)
	}
	for _, p := range []Policy{{High: 101}, {High: -1}, {High: 80, Low: 85}, {High: 80, Low: -1}, {High: 85, MinAge: time.Hour, MaxAge: time.Minute}} {
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), "must") {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// Never an image in use, pinned or too young, and none twice.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := facts()
		f.Images = nil
		byID := map[string]Image{}
		for i := range rapid.IntRange(0, 8).Draw(t, "images") {
			img := Image{
				ID: string(rune('a' + i)), InUse: rapid.Bool().Draw(t, "used"), Pinned: rapid.Bool().Draw(t, "pinned"),
				Seen: ago(time.Duration(rapid.IntRange(-10, 300).Draw(t, "seen")) * time.Minute),
			}
			if rapid.Bool().Draw(t, "was used") {
				img.Used = img.Seen
			}
			f.Images, byID[img.ID] = append(f.Images, img), img
		}
		f.Available = rapid.Uint64Range(0, 2000).Draw(t, "available")
		f.All = rapid.Bool().Draw(t, "all")
		f.Policy.MaxAge = time.Duration(rapid.IntRange(0, 200).Draw(t, "max")) * time.Minute
		p := Make(f)
		seen := map[string]bool{}
		for _, i := range append(p.Old, p.Candidates...) {
			if seen[i.ID] || i.InUse || i.Pinned || noon.Sub(i.Seen) < f.Policy.MinAge {
				t.Fatalf("%+v in %s", i, p)
			}
			seen[i.ID] = true
		}
		if p.Need > f.Capacity {
			t.Fatalf("%s", p)
		}
	})
}
