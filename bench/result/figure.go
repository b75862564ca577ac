package result

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// Role says on which side a contestant is.
type Role string

// The roles. A floor is the least that the kernel or the runtime takes, with no
// daemon at all: a bound for everybody.
const (
	Ours  Role = "nodelet"
	Peer  Role = "peer"
	Floor Role = "floor"
)

// Contestant is a program, or a mode of one, that is measured.
type Contestant struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
}

// Goal is what a figure should be; all parts that are set must hold.
type Goal struct {
	// Limit is the most it may be, or the least where more is better.
	Limit float64 `json:"limit,omitempty"`
	// Times is how many times better than the best peer it must be.
	Times float64 `json:"times,omitempty"`
	// Than is the same for peers by name.
	Than map[string]float64 `json:"than,omitempty"`
	// Floor is how many times the floor it may be, or what share of the floor it must be where more is better.
	Floor float64 `json:"floor,omitempty"`
}

// Figure is one thing that is measured of several contestants, over and over.
type Figure struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// More: a larger value is the better one.
	More bool `json:"moreIsBetter,omitempty"`
	// Quantile says which of the values stands for all: 0.5 is the median.
	Quantile float64 `json:"quantile"`
	// Goals are by contestant; the one of "" is for all of ours.
	Goals map[string]Goal `json:"goals,omitempty"`
	// Floors say whose floors are whose, by contestant, where not every floor is one for all of ours. Goals
	// count with the first. Who is not named has none.
	Floors map[string][]string `json:"floors,omitempty"`
	// Samples are every single value, by contestant and round.
	Samples map[string][][]float64 `json:"samples,omitempty"`
}

// value is what stands for all values of a contestant.
func (f *Figure) value(who string) (float64, bool) {
	all := slices.Concat(f.Samples[who]...)
	if len(all) == 0 {
		return 0, false
	}
	return quantile(all, f.Quantile), true
}

// spread is how far the rounds are apart, as a share of the value.
func (f *Figure) spread(who string) float64 {
	var low, high float64
	for _, round := range f.Samples[who] {
		if len(round) == 0 {
			continue
		}
		v := quantile(round, f.Quantile)
		if low == 0 && high == 0 {
			low, high = v, v
		}
		low, high = min(low, v), max(high, v)
	}
	if v, ok := f.value(who); ok && v != 0 {
		return (high - low) / v
	}
	return 0
}

// times is how many times better a is than b.
func (f *Figure) times(a, b float64) float64 {
	if f.More {
		a, b = b, a
	}
	switch {
	case a > 0 && b > 0:
		return b / a
	case a == b:
		return 1
	case a < b: // a difference can be nothing, or less by noise: a ratio has no meaning then
		return math.Inf(1)
	default:
		return 0
	}
}

// goal is that of one of ours.
func (f *Figure) goal(who string) (Goal, bool) {
	g, ok := f.Goals[who]
	if !ok {
		g, ok = f.Goals[""]
	}
	return g, ok
}

// text is the goal for people.
func (f *Figure) text(g Goal) string {
	sign := "≤"
	if f.More {
		sign = "≥"
	}
	var s string
	add := func(format string, v float64) {
		if v != 0 {
			if s != "" {
				s += ", "
			}
			s += fmt.Sprintf(format, v)
		}
	}
	add(sign+" %g", g.Limit)
	add("≥ %g × peer", g.Times)
	for _, who := range slices.Sorted(maps.Keys(g.Than)) {
		add("≥ %g × "+who, g.Than[who])
	}
	add(sign+" %g × floor", g.Floor)
	return s
}

// quantile gives the value that a share q of all values does not exceed.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
