package nft

import "testing"

func TestTwice(t *testing.T) {
	a, b, longer := Element{Key: []byte("a")}, Element{Key: []byte("b")}, Element{Key: []byte("a"), KeyEnd: []byte("c")}
	for _, c := range []struct {
		name string
		all  []Element
		want bool
	}{
		{"nothing", nil, false},
		{"each once", []Element{a, b, longer}, false},
		{"one twice, one missing", []Element{a, b, a}, true},
		{"a range twice", []Element{longer, b, longer}, true},
	} {
		if got := twice(c.all); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
