package cpuplan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Set is a set of CPUs, in ascending order.
type Set []int

// Parse reads a list as the kernel and people write it, such as 0-3,6.
func Parse(text string) (Set, error) {
	var s Set
	if strings.TrimSpace(text) == "" {
		return s, nil
	}
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err := strconv.Atoi(strings.TrimSpace(from))
		b, err2 := strconv.Atoi(strings.TrimSpace(to))
		const most = 1 << 16
		if err != nil || err2 != nil || a < 0 || b < a || b >= most {
			return nil, fmt.Errorf("read list of CPUs %q: %q is neither a number nor a range such as 0-3", text, part)
		}
		for n := a; n <= b; n++ {
			s = append(s, n)
		}
	}
	slices.Sort(s)
	return slices.Compact(s), nil
}

// String is the set as the kernel writes it.
func (s Set) String() string {
	var parts []string
	for i := 0; i < len(s); {
		k := i
		for k+1 < len(s) && s[k+1] == s[k]+1 {
			k++
		}
		if k == i {
			parts = append(parts, strconv.Itoa(s[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", s[i], s[k]))
		}
		i = k + 1
	}
	return strings.Join(parts, ",")
}

// Has tells whether a CPU is in the set.
func (s Set) Has(cpu int) bool {
	_, found := slices.BinarySearch(s, cpu)
	return found
}

// And gives the CPUs of both.
func (s Set) And(o Set) Set { return s.filter(o.Has) }

// Without gives the CPUs that are not in o.
func (s Set) Without(o Set) Set { return s.filter(func(cpu int) bool { return !o.Has(cpu) }) }

// With gives the CPUs of either.
func (s Set) With(o Set) Set {
	all := append(slices.Clone(s), o...)
	slices.Sort(all)
	return slices.Compact(all)
}

func (s Set) filter(keep func(int) bool) (out Set) {
	for _, cpu := range s {
		if keep(cpu) {
			out = append(out, cpu)
		}
	}
	return out
}
