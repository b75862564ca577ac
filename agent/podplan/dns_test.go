package podplan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestParseResolvConf(t *testing.T) {
	got := ParseResolvConf(`# comment
nameserver 192.0.2.1
nameserver
search old.example
search a.example. b.example .
options ndots:2 rotate
options ndots:3
sortlist x
`)
	want := DNS{
		Servers: []string{"192.0.2.1"}, Searches: []string{"a.example", "b.example"}, Options: []string{"ndots:3", "rotate"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSearchLimits(t *testing.T) {
	m := &maker{obj: &corev1.Pod{}}
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("%d.example", i))
	}
	if got := m.limitDNS(DNS{Searches: many}).GetSearches(); len(got) != maxSearchPaths {
		t.Errorf("%d search paths", len(got))
	}
	long := strings.Repeat("a", 200)
	got := m.limitDNS(DNS{Searches: []string{"1" + long, "2" + long, strings.Repeat("b", 254), "3" + long, "4" + long, "5" + long, "6" + long, "7" + long, "8" + long, "9" + long, "a" + long, "b" + long}}).GetSearches()
	if line := strings.Join(got, " "); len(line) > maxSearchLine || len(got) != 10 {
		t.Errorf("%d paths, %d characters", len(got), len(line))
	}
	if len(m.plan.Problems) != 2 {
		t.Errorf("problems: %v", m.plan.Problems)
	}
}
