package corefile

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkParse is a Corefile with as many lines of hosts and stub zones.
func BenchmarkParse(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var text strings.Builder
			text.WriteString(".:53 {\n hosts {\n")
			for i := range n {
				fmt.Fprintf(&text, "  10.0.%d.%d h%d.example\n", i/250, i%250+1, i)
			}
			text.WriteString("  fallthrough\n }\n forward . 192.0.2.1\n}\n")
			for i := range n {
				fmt.Fprintf(&text, "z%d.example {\n forward . 192.0.2.1\n}\n", i)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse("Corefile", text.String(), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
