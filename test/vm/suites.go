package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"nodelet/test/vm/plan"
)

const tags = "no_btrfs,no_devmapper,no_zfs,osusergo,netgo"

// A suite is the tests of one package, by its path in the repository.
type suite struct {
	pkg string
	// tests is a regular expression: which of its tests depend on the kernel;
	// empty: all.
	tests string
	// data are directories with test data beside the package's own.
	data []string
	// systemd: needs a Debian with systemd and the programs of this repository,
	// not just a kernel.
	systemd bool
}

// catalog lists what has to work on every kernel.
func catalog() []suite {
	return []suite{
		{pkg: "internal/netns"},
		{pkg: "internal/nl"},
		{pkg: "internal/nft"},
		{pkg: "internal/conntrack"},
		{pkg: "internal/xtables"},
		{pkg: "internal/cgroup"},
		{pkg: "agent/stats"},
		{pkg: "agent/evict"},
		{pkg: "cni/link"},
		{pkg: "dns", tests: "^TestKernel"},
		{pkg: "proxy/nftables", tests: "Conformance|Worlds|Drift|Probe|Restart", data: []string{"proxy/lb/testdata"}},
		{pkg: "proxy/ebpf", tests: "Load|Conformance|XDP"},
		{pkg: "proxy/ipvs"},
		{pkg: "proxy", tests: "^TestForeignIPVS"},
		{pkg: "proxy/prove", tests: "Simulated|Held|Packets|IPVS"},
		{pkg: "test/vm/systemd", systemd: true},
	}
}

// name is the suite's file name.
func (s suite) name() string { return strings.ReplaceAll(s.pkg, "/", "-") }

// choose takes the suites whose path matches.
func choose(want *regexp.Regexp) (small, systemd []suite) {
	for _, s := range catalog() {
		switch {
		case !want.MatchString(s.pkg):
		case s.systemd:
			systemd = append(systemd, s)
		default:
			small = append(small, s)
		}
	}
	return small, systemd
}

// payload is what the suites of a machine need, by path in the machine.
type payload map[string]source

// source is a file of the host, or content made here.
type source struct {
	path    string
	content []byte
	mode    fs.FileMode
}

// load builds the tests of suites and says what each machine with them holds:
// the guest, the plan, the tests and their testdata.
func (r *runner) load(suites []suite, root string) (payload, error) {
	p := payload{}
	guest := filepath.Join(r.cache, "guest")
	if err := r.gobuild("build", "-o", guest, "./test/vm/guest"); err != nil {
		return nil, err
	}
	p["/vm/guest"] = source{path: guest, mode: 0o755}
	todo := plan.Plan{Root: root}
	for _, s := range suites {
		binary := filepath.Join(r.cache, s.name()+".test")
		if err := r.gobuild("test", "-c", "-o", binary, "./"+s.pkg); err != nil {
			return nil, fmt.Errorf("build the tests of %s: %w", s.pkg, err)
		}
		dir := "/vm/src/" + s.pkg
		p[dir+"/suite.test"] = source{path: binary, mode: 0o755}
		for _, data := range append(s.data, s.pkg+"/testdata") {
			if err := p.tree("/vm/src/"+data, data); err != nil {
				return nil, err
			}
		}
		todo.Steps = append(todo.Steps, plan.Step{Name: s.pkg, Dir: dir, Command: []string{
			"./suite.test", "-test.v", "-test.timeout=" + r.timeout.String(), "-test.run=" + cmp.Or(r.test, s.tests, "."),
		}})
	}
	text, err := json.MarshalIndent(todo, "", " ")
	p[plan.Path] = source{content: text, mode: 0o644}
	return p, err
}

// tree adds the files of a directory, if it is there.
func (p payload) tree(at, dir string) error {
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		p[filepath.Join(at, rel)] = source{path: file, mode: info.Mode().Perm()}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s source) read() ([]byte, error) {
	if s.path == "" {
		return s.content, nil
	}
	return os.ReadFile(s.path)
}

func (r *runner) gobuild(verb string, args ...string) error {
	cmd := exec.CommandContext(r.ctx, "go", append([]string{verb, "-tags", tags}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s %s: %w", verb, args[len(args)-1], err)
	}
	return nil
}
