package result

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Compare prints how each figure of each contestant changed from one run to
// another. Changes within the rounds' spread of either run are marked as noise.
func Compare(w io.Writer, base, now *File) {
	fmt.Fprintf(w, "base: %s\nnow:  %s\n", base.Machine.String(), now.Machine.String())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "area\tfigure\twho\tbase\tnow\tunit\tchange\t")
	for _, a := range now.Areas {
		i := slices.IndexFunc(base.Areas, func(b *Area) bool { return b.Name == a.Name })
		if i < 0 {
			continue
		}
		for _, f := range a.Figures {
			j := slices.IndexFunc(base.Areas[i].Figures, func(g *Figure) bool { return g.Name == f.Name })
			if j < 0 {
				continue
			}
			for _, c := range a.Contestants {
				if line := change(base.Areas[i].Figures[j], f, c.Name); line != "" {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", a.Name, f.Name, c.Name, line)
				}
			}
		}
	}
	_ = t.Flush() // to the terminal
}

func change(base, now *Figure, who string) string {
	old, had := base.value(who)
	v, has := now.value(who)
	if !had || !has || old == 0 {
		return ""
	}
	rel := v/old - 1
	var verdict string
	switch noise := max(base.spread(who), now.spread(who), 0.05); {
	case rel > -noise && rel < noise:
		verdict = "~"
	case (rel > 0) == now.More:
		verdict = "better"
	default:
		verdict = "WORSE"
	}
	return strings.Join([]string{digits(old), digits(v), now.Unit, fmt.Sprintf("%+.0f%%", 100*rel), verdict}, "\t")
}
