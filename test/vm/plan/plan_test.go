package plan

import "testing"

func TestRead(t *testing.T) {
	for line, want := range map[string]Word{
		Begin("a/b"):                    {Begin: "a/b"},
		"[ 1.5] printk: " + End("a", 3): {End: "a", Status: 3},
		End("a", -1) + "\r":             {End: "a", Status: -1},
		Off():                           {Off: true},
	} {
		if got, ok := Read(line); !ok || got != want {
			t.Errorf("%q: %+v %t", line, got, ok)
		}
	}
	for _, line := range []string{"--- PASS: TestX", "##vm end a", "##vm end a b", "##vm other", ""} {
		if got, ok := Read(line); ok {
			t.Errorf("%q is understood as %+v", line, got)
		}
	}
}
