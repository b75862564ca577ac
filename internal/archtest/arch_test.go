package archtest

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	maxFile   = 500 // lines
	maxFunc   = 70  // lines
	maxParams = 4
)

// file is one parsed Go source file that is not a test.
type file struct {
	path string // from the root of the repository
	ast  *ast.File
	set  *token.FileSet
}

func sources(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel("../..", path)
		if d.IsDir() {
			if slices.Contains([]string{".git", ".cache", "bin", "testdata"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "_bpfel.go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, file{filepath.ToSlash(rel), f, set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d files found: looking in the wrong place", len(files))
	}
	return files
}

func TestSizes(t *testing.T) {
	for _, f := range sources(t) {
		if n := f.set.Position(f.ast.End()).Line; n > maxFile {
			t.Errorf("%s has %d lines, more than %d", f.path, n, maxFile)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			from, to := f.set.Position(fn.Pos()), f.set.Position(fn.End())
			if n := to.Line - from.Line + 1; n > maxFunc {
				t.Errorf("%s:%d: %s has %d lines, more than %d", f.path, from.Line, fn.Name.Name, n, maxFunc)
			}
			if n := parameters(fn); n > maxParams {
				t.Errorf("%s:%d: %s has %d parameters, more than %d", f.path, from.Line, fn.Name.Name, n, maxParams)
			}
		}
	}
}

// parameters counts them, ctx apart.
func parameters(fn *ast.FuncDecl) int {
	n := 0
	for _, p := range fn.Type.Params.List {
		if s, ok := p.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Context" {
			continue
		}
		n += max(1, len(p.Names))
	}
	return n
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range sources(t) {
		dir := filepath.Dir(f.path)
		documented[dir] = documented[dir] || f.ast.Doc != nil
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

// TestDirection: cmd -> node -> features -> their pure packages -> store -> model.
func TestDirection(t *testing.T) {
	features := []string{"agent", "proxy", "dns", "cni", "explain"}
	area := func(path string) string { return strings.SplitN(path, "/", 2)[0] }
	pure := []string{"agent/podplan", "agent/admission", "proxy/lb", "proxy/eval", "dns/zone", "cni/linkplan"}
	for _, f := range sources(t) {
		from := filepath.Dir(f.path)
		for _, spec := range f.ast.Imports {
			to, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "nodelet/")
			if !ours || area(from) == "controlplane" || area(from) == "test" {
				continue
			}
			report := func(why string) { t.Errorf("%s imports %s: %s", f.path, to, why) }
			switch {
			case area(to) == "node" && area(from) != "cmd" && area(from) != "node":
				report("only cmd may import node")
			case area(from) == "bench" && area(to) == "test":
				// What measures uses what tests: the lab.
			case area(to) == "cmd" || area(to) == "test" || area(to) == "controlplane":
				report("nothing imports that")
			case slices.Contains(features, area(from)) && slices.Contains(features, area(to)) && area(from) != area(to):
				if area(from) != "explain" || !slices.Contains(pure, to) {
					report("features do not import one another")
				}
			case slices.Contains(features, area(from)) && area(to) == "cri" && area(from) != "agent":
				report("only the agent uses the container runtime")
			case area(from) == "internal" && area(to) != "internal":
				report("internal packages know nothing above them")
			case from == "internal/model", from == "internal/store" && to != "internal/model":
				report("the bottom depends on nothing above it")
			}
		}
	}
}

var step = regexp.MustCompile("`([a-z0-9_/.-]+\\.go) : ([A-Za-z0-9_.]+)`")

// TestFlowsExist: each `file : function` of docs/flows.md is there.
func TestFlowsExist(t *testing.T) {
	doc, err := os.Open("../../docs/flows.md")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = doc.Close() }()
	funcs := map[string]bool{}
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				funcs[f.path+" : "+qualified(fn)] = true
			}
		}
	}
	n := 0
	lines := bufio.NewScanner(doc)
	for line := 1; lines.Scan(); line++ {
		for _, m := range step.FindAllStringSubmatch(lines.Text(), -1) {
			n++
			if !funcs[m[1]+" : "+m[2]] {
				t.Errorf("docs/flows.md:%d: there is no %s in %s", line, m[2], m[1])
			}
		}
	}
	if n < 20 {
		t.Errorf("docs/flows.md names only %d functions: is it still written as `file.go : Function`?", n)
	}
}

// qualified is "Name" or "Type.Name".
func qualified(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	typ := fn.Recv.List[0].Type
	if p, ok := typ.(*ast.StarExpr); ok {
		typ = p.X
	}
	switch g := typ.(type) {
	case *ast.IndexExpr:
		typ = g.X
	case *ast.IndexListExpr:
		typ = g.X
	}
	return fmt.Sprintf("%s.%s", typ, fn.Name.Name)
}
