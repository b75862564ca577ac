package result

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
)

// Area is all figures of one part of the product.
type Area struct {
	Name        string       `json:"name"`
	Contestants []Contestant `json:"contestants"`
	// Rounds are what was run, in order, with what else the machine did.
	Rounds  []Round   `json:"rounds"`
	Figures []*Figure `json:"figures"`
	// Problems are parts that could not be measured.
	Problems []string `json:"problems,omitempty"`
}

// Round is one contestant's turn.
type Round struct {
	Number int    `json:"number"`
	Who    string `json:"who"`
	// Load is the load averages before the turn, Busy the share of all CPUs that was in use in the second before it.
	Load    string  `json:"load"`
	Busy    float64 `json:"busy"`
	Seconds float64 `json:"seconds"`
}

// Add adds values of one contestant in a round, counted from 0. A figure that
// was not declared is an error of the program.
func (a *Area) Add(name, who string, round int, values ...float64) error {
	if !slices.ContainsFunc(a.Contestants, func(c Contestant) bool { return c.Name == who }) {
		return fmt.Errorf("%s: figure %q: nobody is called %q", a.Name, name, who)
	}
	i := slices.IndexFunc(a.Figures, func(f *Figure) bool { return f.Name == name })
	if i < 0 {
		return fmt.Errorf("%s: no figure is called %q", a.Name, name)
	}
	f := a.Figures[i]
	if f.Samples == nil {
		f.Samples = map[string][][]float64{}
	}
	for len(f.Samples[who]) <= round {
		f.Samples[who] = append(f.Samples[who], nil)
	}
	f.Samples[who][round] = append(f.Samples[who][round], values...)
	return nil
}

// Figure is the one of that name; an empty one when there is none.
func (a *Area) Figure(name string) *Figure {
	for _, f := range a.Figures {
		if f.Name == name {
			return f
		}
	}
	return &Figure{Name: name}
}

// names are the contestants of a role.
func (a *Area) names(r Role) []string {
	var out []string
	for _, c := range a.Contestants {
		if c.Role == r {
			out = append(out, c.Name)
		}
	}
	return out
}

// best is the best contestant of a role in a figure.
func (a *Area) best(f *Figure, r Role) (who string, v float64, ok bool) {
	for _, name := range a.names(r) {
		if x, is := f.value(name); is && (!ok || f.times(x, v) > 1) {
			who, v, ok = name, x, true
		}
	}
	return who, v, ok
}

// floor is the least that one of ours could reach in a figure.
type floor struct {
	who   string
	value float64
}

// floors are those of one of ours in a figure, the one that goals count with first.
func (a *Area) floors(f *Figure, who string) []floor {
	if f.Floors == nil {
		if name, v, ok := a.best(f, Floor); ok {
			return []floor{{name, v}}
		}
		return nil
	}
	var out []floor
	for _, name := range f.Floors[who] {
		if v, ok := f.value(name); ok {
			out = append(out, floor{name, v})
		}
	}
	return out
}

// row is one of ours in one figure, judged.
type row struct {
	figure    *Figure
	who, peer string
	value     float64
	peerValue float64
	floors    []floor
	hasPeer   bool
	goal      string
	met       string
}

// rows are all figures of all of ours.
func (a *Area) rows() []row {
	var out []row
	for _, f := range a.Figures {
		for _, who := range a.names(Ours) {
			v, ok := f.value(who)
			if !ok {
				continue
			}
			r := row{figure: f, who: who, value: v}
			r.peer, r.peerValue, r.hasPeer = a.best(f, Peer)
			r.floors = a.floors(f, who)
			r.judge()
			r.judgeThan()
			out = append(out, r)
		}
	}
	return out
}

// judge compares with the goal: yes, NO, or ? where what it is compared with was not measured.
func (r *row) judge() {
	g, ok := r.figure.goal(r.who)
	if !ok {
		return
	}
	r.goal, r.met = r.figure.text(g), "yes"
	limit := func(v float64) {
		if r.figure.More && r.value < v || !r.figure.More && r.value > v {
			r.met = "NO"
		}
	}
	if g.Limit != 0 {
		limit(g.Limit)
	}
	switch {
	case g.Floor != 0 && len(r.floors) > 0:
		limit(g.Floor * r.floors[0].value)
	case g.Floor != 0:
		r.met = "?"
	}
	switch {
	case g.Times != 0 && r.hasPeer && r.figure.times(r.value, r.peerValue) < g.Times:
		r.met = "NO"
	case g.Times != 0 && !r.hasPeer && r.met == "yes":
		r.met = "?"
	}
}

// judgeThan compares with single peers.
func (r *row) judgeThan() {
	g, _ := r.figure.goal(r.who)
	for peer, times := range g.Than {
		switch v, ok := r.figure.value(peer); {
		case ok && r.figure.times(r.value, v) < times:
			r.met = "NO"
		case !ok && r.met == "yes":
			r.met = "?"
		}
	}
}

func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

func readJSON(file string, into any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read results: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read results of %s: %w", file, err)
	}
	return nil
}
