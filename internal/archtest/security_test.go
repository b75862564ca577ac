package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	named  = regexp.MustCompile("`([a-z0-9_/.-]+_test\\.go) : (Test[A-Za-z0-9_]+)`")
	golden = regexp.MustCompile("`([a-z0-9_/.-]+\\.txtar)`")
)

// TestSecurityTestsExist: each test that docs/security.md names is there, and each row of a hole names one.
func TestSecurityTestsExist(t *testing.T) {
	doc, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(doc)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| hole") {
			continue
		}
		rows++
		tests, cases := named.FindAllStringSubmatch(line, -1), golden.FindAllStringSubmatch(line, -1)
		if len(tests)+len(cases) == 0 {
			t.Errorf("docs/security.md: no test in %s", line)
		}
		for _, m := range tests {
			text, err := os.ReadFile(filepath.Join("../..", m[1]))
			if err != nil || !strings.Contains(string(text), "func "+m[2]+"(t *testing.T)") {
				t.Errorf("docs/security.md: %s has no %s (%v)", m[1], m[2], err)
			}
		}
		for _, m := range cases {
			if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
				t.Errorf("docs/security.md: %v", err)
			}
		}
	}
	if rows < 15 {
		t.Errorf("docs/security.md has %d rows: is its form another one now?", rows)
	}
}

// TestContainerdIsMended: the module is none that has a known hole. 2.3.2 has the last of those that
// docs/security.md names mended (GHSA-xhf5-7wjv-pqxp); raise it with the next one.
func TestContainerdIsMended(t *testing.T) {
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`github\.com/containerd/containerd/v2 v(\d+)\.(\d+)\.(\d+)`).FindStringSubmatch(string(text))
	if m == nil {
		t.Fatal("go.mod names no containerd")
	}
	least := []int{2, 3, 2}
	for i, part := range m[1:] {
		n, err := strconv.Atoi(part)
		if err != nil {
			t.Fatal(err)
		}
		if n > least[i] {
			return
		}
		if n < least[i] {
			t.Fatalf("containerd %s has known holes: at least v2.3.2 is needed", m[0])
		}
	}
}
