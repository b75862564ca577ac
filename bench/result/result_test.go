package result

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sample(t *testing.T) *File {
	t.Helper()
	a := &Area{
		Name:        "proxy",
		Contestants: []Contestant{{"nodelet fast", Ours}, {"nodelet slow", Ours}, {"peer a", Peer}, {"peer b", Peer}, {"raw", Floor}, {"bare", Floor}},
		Rounds:      []Round{{Number: 0, Who: "nodelet fast", Busy: .25, Seconds: 2}, {Number: 1, Who: "peer a", Seconds: 3}},
		Figures: []*Figure{
			{Name: "change", Unit: "ms", Quantile: .5, Goals: map[string]Goal{"nodelet fast": {Limit: 5, Times: 100}, "nodelet slow": {Limit: 5, Times: 100}}},
			{Name: "rate", Unit: "1/s", More: true, Quantile: .5, Goals: map[string]Goal{"": {Floor: .9}}},
			{Name: "alone", Unit: "MB", Quantile: .5, Goals: map[string]Goal{"": {Times: 2}}},
			{Name: "own", Unit: "µs", Quantile: .5, Floors: map[string][]string{"nodelet fast": {"raw"}}},
			{Name: "both", Unit: "µs", Quantile: .5, Floors: map[string][]string{"nodelet fast": {"raw", "bare"}}, Goals: map[string]Goal{"": {Floor: 1.5}}},
		},
	}
	add := func(name, who string, round int, v ...float64) {
		t.Helper()
		if err := a.Add(name, who, round, v...); err != nil {
			t.Fatal(err)
		}
	}
	add("change", "nodelet fast", 0, 1, 2, 3)
	add("change", "nodelet fast", 1, 3, 2.2, 1)
	add("change", "nodelet slow", 0, 6)
	add("change", "peer a", 0, 500)
	add("change", "peer b", 1, 400)
	add("rate", "nodelet fast", 0, 95)
	add("rate", "nodelet slow", 0, 80)
	add("rate", "raw", 0, 100)
	add("alone", "nodelet fast", 0, 7)
	add("own", "nodelet fast", 0, 5)
	add("own", "nodelet slow", 0, 6)
	add("own", "raw", 0, 4)
	add("both", "nodelet fast", 0, 5)
	add("both", "raw", 0, 4)
	add("both", "bare", 0, 1)
	return &File{Areas: []*Area{a}}
}

// TestTable: the best peer is compared with, in the direction in which better is.
func TestTable(t *testing.T) {
	var b bytes.Buffer
	sample(t).Print(&b)
	for _, want := range []string{
		"2 rounds, 5 s; the machine was up to 25 % busy",
		"change fast 2.00 peer b 400 200 × 10%/0% ms ≤ 5, ≥ 100 × peer yes",
		"slow 6.00 peer b 400 66.7 × 0%/0% ms ≤ 5, ≥ 100 × peer NO",
		"rate fast 95.0 0% 100 1/s ≥ 0.9 × floor yes",
		"slow 80.0 0% 100 1/s ≥ 0.9 × floor NO",
		"alone fast 7.00 0% MB ≥ 2 × peer ?",
		"own fast 5.00 0% 4.00 µs slow 6.00 0% µs",
		"both fast 5.00 0% 4.00 (raw), 1.00 (bare) µs ≤ 1.5 × floor yes",
	} {
		if !strings.Contains(strings.Join(strings.Fields(b.String()), " "), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestAddKnowsItsNames(t *testing.T) {
	a := sample(t).Areas[0]
	if err := a.Add("chance", "peer a", 0, 1); err == nil {
		t.Error("an unknown figure is taken")
	}
	if err := a.Add("change", "peer c", 0, 1); err == nil {
		t.Error("an unknown contestant is taken")
	}
}

// TestTimes: differences may be nothing or, by noise, less.
func TestTimes(t *testing.T) {
	f := &Figure{}
	for _, c := range []struct{ a, b, want float64 }{{2, 4, 2}, {-1, 3, math.Inf(1)}, {3, -1, 0}, {0, 0, 1}, {0, 5, math.Inf(1)}} {
		if got := f.times(c.a, c.b); got != c.want {
			t.Errorf("%v against %v: %v times better, want %v", c.a, c.b, got, c.want)
		}
	}
	if got := (&Figure{More: true}).times(10, 5); got != 2 {
		t.Errorf("twice as many: %v times better", got)
	}
}

func TestCompare(t *testing.T) {
	base, now := sample(t), sample(t)
	now.Areas[0].Figures[0].Samples["peer a"][0][0] = 250
	now.Areas[0].Figures[1].Samples["raw"][0][0] = 50
	var b bytes.Buffer
	Compare(&b, base, now)
	got := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{"change peer a 500 250 ms -50% better", "rate raw 100 50.0 1/s -50% WORSE", "change nodelet fast 2.00 2.00 ms +0% ~"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestFiles: what is written is read again, and tables go between the marks and nowhere else.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	file, doc := filepath.Join(dir, "r.json"), filepath.Join(dir, "d.md")
	if err := sample(t).Write(file); err != nil {
		t.Fatal(err)
	}
	f, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(doc, []byte("before\n"+openMark+"\nold\n"+closeMark+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := Markdown(doc, f); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if !strings.HasPrefix(text, "before\n"+openMark) || !strings.HasSuffix(text, closeMark+"\nafter\n") || strings.Contains(text, "old") {
		t.Errorf("marks are not respected:\n%s", text)
	}
	if !strings.Contains(text, "| change | fast | 2.00 | peer b | 400 | 200 × |") {
		t.Errorf("no table in\n%s", text)
	}
	if err := Markdown(file, f); err == nil {
		t.Error("a document without marks is taken")
	}
}
