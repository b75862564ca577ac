package podplan

import (
	"strings"
	"testing"
)

func TestEnvFileValue(t *testing.T) {
	const good = "# a comment\n\n  \t\nA='1'\n\tB='two words' # why\nC='line one\nline = two\n\n# no comment'\r\nD= 'x'\nE=''\nA='again'\nF='a\"$(A)\\n'"
	for key, want := range map[string]string{
		"A": "1", "B": "two words", "C": "line one\nline = two\n\n# no comment", "D": "", "E": "", "F": `a"$(A)\n`, "G": "", "": "",
	} {
		if got, err := EnvFileValue(good, key); err != nil || got != want {
			t.Errorf("%s is %q %v, want %q", key, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"A":                  "line 1: there is no '='",
		"\n='1'":             "line 2: the variable has no name",
		"A ='1'":             "line 1: there is a space before '='",
		"A=1":                "line 1: the value is not in single quotes",
		"A=\"1\"":            "line 1: the value is not in single quotes",
		"A=":                 "line 1: the value is not in single quotes",
		"A='1\n2\n":          "line 1: the value does not end",
		"A='1' 2":            "line 1: there is something behind the value",
		"# x\nA='1'\nB='2'2": "line 3: there is something behind the value",
	} {
		if got, err := EnvFileValue(text, "key"); err == nil || err.Error() != want {
			t.Errorf("%q: %q %v, want %s", text, got, err, want)
		}
	}
	// What comes behind the key is not looked at, as upstream has it.
	if got, err := EnvFileValue("A='1'\nbroken", "A"); err != nil || got != "1" {
		t.Errorf("%q %v", got, err)
	}
}

func FuzzEnvFileValue(f *testing.F) {
	f.Add("A='1'\n# c\nB='2\n3'", "B")
	f.Fuzz(func(t *testing.T, text, key string) {
		value, err := EnvFileValue(text, key)
		if strings.Contains(value, "'") || err != nil && value != "" {
			t.Errorf("%q %v", value, err)
		}
	})
}
