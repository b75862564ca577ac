package result

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// File is a whole run.
type File struct {
	Machine Facts `json:"machine"`
	// Quick: sizes were smaller than the figures' names say.
	Quick bool    `json:"quick,omitempty"`
	Areas []*Area `json:"areas"`
}

// Read reads a run.
func Read(file string) (*File, error) {
	var f File
	if err := readJSON(file, &f); err != nil {
		return nil, err
	}
	return &f, nil
}

// Write writes a run.
func (f *File) Write(file string) error { return writeJSON(file, f) }

// Put adds an area, in the place of one of the same name.
func (f *File) Put(a *Area) {
	if i := slices.IndexFunc(f.Areas, func(b *Area) bool { return b.Name == a.Name }); i >= 0 {
		f.Areas[i] = a
		return
	}
	f.Areas = append(f.Areas, a)
}

// Print writes all tables.
func (f *File) Print(w io.Writer) {
	fmt.Fprintln(w, f.Machine.String())
	for _, a := range f.Areas {
		fmt.Fprintln(w)
		a.Print(w)
	}
}

var head = []string{"figure", "nodelet", "", "peer", "", "ratio", "spread", "floor", "unit", "goal", "met"}

// Print writes the area's table: one line for each of ours in each figure, beside the best peer.
func (a *Area) Print(w io.Writer) {
	fmt.Fprintf(w, "%s: %s\n", a.Name, a.conditions())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(head, "\t"))
	last := ""
	for _, r := range a.rows() {
		cells := r.cells(a)
		if cells[0] == last {
			cells[0] = ""
		} else {
			last = cells[0]
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	_ = t.Flush() // to the terminal
	for _, p := range a.Problems {
		fmt.Fprintln(w, "not measured:", p)
	}
}

// cells are the columns of head.
func (r *row) cells(a *Area) []string {
	c := []string{r.figure.Name, short(r.who), digits(r.value), "", "", "", percent(r.figure.spread(r.who)), "", r.figure.Unit, r.goal, r.met}
	if len(a.names(Ours)) == 1 {
		c[1] = ""
	}
	if r.hasPeer {
		c[3], c[4], c[5] = r.peer, digits(r.peerValue), digits(r.figure.times(r.value, r.peerValue))+" ×"
		c[6] += "/" + percent(r.figure.spread(r.peer))
	}
	c[7] = r.floorCell()
	return c
}

// floorCell is the floor, and whose it is where there are several.
func (r *row) floorCell() string {
	if len(r.floors) == 1 {
		return digits(r.floors[0].value)
	}
	var all []string
	for _, f := range r.floors {
		all = append(all, digits(f.value)+" ("+f.who+")")
	}
	return strings.Join(all, ", ")
}

// short leaves out what the column's head says.
func short(who string) string { return strings.TrimPrefix(who, "nodelet ") }

func percent(v float64) string { return fmt.Sprintf("%.0f%%", 100*v) }

// digits gives three of them, never in the exponent's form.
func digits(v float64) string {
	switch abs := math.Abs(v); {
	case math.IsInf(v, 0):
		return "∞"
	case abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	case abs >= 0.1 || abs == 0:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// conditions sums up under what load the rounds ran.
func (a *Area) conditions() string {
	if len(a.Rounds) == 0 {
		return "no rounds"
	}
	rounds, worst, took := 0, 0.0, 0.0
	for _, r := range a.Rounds {
		rounds, worst, took = max(rounds, r.Number+1), max(worst, r.Busy), took+r.Seconds
	}
	return fmt.Sprintf("%d rounds, %.0f s; the machine was up to %.0f %% busy with other things before one", rounds, took, 100*worst)
}
