package result

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// The lines between which Markdown writes.
const (
	openMark  = "<!-- tables: make bench-doc -->"
	closeMark = "<!-- end of tables -->"
)

// Markdown writes the run's tables into a document, between its marks.
func Markdown(file string, f *File) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("write tables: %w", err)
	}
	before, rest, ok := bytes.Cut(text, []byte(openMark))
	_, after, closed := bytes.Cut(rest, []byte(closeMark))
	if !ok || !closed {
		return fmt.Errorf("write tables into %s: it has no lines %q and %q", file, openMark, closeMark)
	}
	var b bytes.Buffer
	b.Write(before)
	fmt.Fprintf(&b, "%s\n\n%s\n", openMark, f.Machine.String())
	for _, a := range f.Areas {
		a.markdown(&b)
	}
	fmt.Fprintf(&b, "\n%s", closeMark)
	b.Write(after)
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write tables: %w", err)
	}
	return nil
}

// markdown writes what is promised, and then every contestant's value.
func (a *Area) markdown(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n### %s\n\n%s.\n\n", a.Name, a.conditions())
	line := func(cells []string) { fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | ")) }
	line([]string{"figure", "nodelet", "", "best peer", "", "ratio", "spread", "floor", "unit", "goal", "met"})
	line(strings.Split(strings.Repeat("---,", len(head)-1)+"---", ","))
	for _, r := range a.rows() {
		line(r.cells(a))
	}
	if len(a.names(Peer)) > 1 {
		a.matrix(line, b)
	}
	for _, p := range a.Problems {
		fmt.Fprintf(b, "\nNot measured: %s\n", p)
	}
}

// matrix is every figure of every contestant.
func (a *Area) matrix(line func([]string), b *bytes.Buffer) {
	fmt.Fprintln(b, "\nEverybody's values:")
	fmt.Fprintln(b)
	names, rule := []string{"figure", "unit"}, []string{"---", "---"}
	for _, c := range a.Contestants {
		names, rule = append(names, c.Name), append(rule, "---")
	}
	line(names)
	line(rule)
	for _, f := range a.Figures {
		cells, any := []string{f.Name, f.Unit}, false
		for _, c := range a.Contestants {
			v, ok := f.value(c.Name)
			cell := ""
			if ok {
				cell, any = digits(v), true
			}
			cells = append(cells, cell)
		}
		if any {
			line(cells)
		}
	}
}
