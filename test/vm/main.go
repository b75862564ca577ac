package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// runner is one run of the command.
type runner struct {
	// out is told what machines say.
	out     io.Writer
	ctx     context.Context // of the whole run
	cache   string
	test    string
	timeout time.Duration
	verbose bool
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	kernels := flag.String("kernels", "5.15,6.1,6.12", "versions of kernels, comma separated")
	run := flag.String("run", ".", "regular expression: which packages' tests")
	r := &runner{out: os.Stdout, ctx: ctx}
	flag.StringVar(&r.test, "test", "", "regular expression: which tests of them (default: those that depend on the kernel)")
	flag.StringVar(&r.cache, "cache", ".cache/vm", "directory for kernels and file systems")
	flag.DurationVar(&r.timeout, "timeout", 40*time.Minute, "how long one machine may take")
	flag.BoolVar(&r.verbose, "v", false, "show all that the machines say")
	flag.Parse()
	good, err := r.run(strings.Split(*kernels, ","), *run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
	}
	if err != nil || !good {
		os.Exit(1)
	}
}

func (r *runner) run(versions []string, run string) (bool, error) {
	if runtime.GOARCH != "amd64" {
		return false, fmt.Errorf("the test machines are made for amd64 only, this is %s", runtime.GOARCH)
	}
	want, err := regexp.Compile(run)
	if err != nil {
		return false, fmt.Errorf("parse -run: %w", err)
	}
	if _, err := regexp.Compile(r.test); err != nil {
		return false, fmt.Errorf("parse -test: %w", err)
	}
	for _, v := range versions {
		if !regexp.MustCompile(`^[0-9]+\.[0-9]+$`).MatchString(v) {
			return false, fmt.Errorf("%q is not a version of a kernel; write 6.1", v)
		}
	}
	small, systemd := choose(want)
	if len(small)+len(systemd) == 0 {
		return false, fmt.Errorf("no suite matches %q; there are: %v", run, names(catalog()))
	}
	if r.cache, err = filepath.Abs(r.cache); err != nil {
		return false, err
	}
	if err := os.MkdirAll(r.cache, 0o755); err != nil {
		return false, err
	}
	var all []ran
	for _, v := range versions {
		k, err := r.kernel(v)
		if err != nil {
			fmt.Printf("kernel %s: %v\n", v, err)
			all = append(all, ran{version: v, err: err, missing: true})
			continue
		}
		done := ran{version: v, release: k.release}
		fmt.Printf("kernel %s\n", k.release)
		done.results, done.err = r.small(k, small)
		if more, err := r.withSystemd(k, systemd); err != nil || len(more) > 0 {
			done.results, done.err = append(done.results, more...), errors.Join(done.err, err)
		}
		all = append(all, done)
		if r.ctx.Err() != nil {
			return false, errors.New("interrupted")
		}
	}
	return report(os.Stdout, all), nil
}

// small runs suites that need a kernel and little else.
func (r *runner) small(k kernel, suites []suite) ([]result, error) {
	if len(suites) == 0 {
		return nil, nil
	}
	p, err := r.load(suites, "")
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(r.cache, "small.cpio")
	if err := r.initramfs(initrd, k, p); err != nil {
		return nil, fmt.Errorf("write the first file system: %w", err)
	}
	return r.boot(machine{name: "small-" + k.version, kernel: k, initrd: initrd, memory: 1024})
}

func names(suites []suite) (out []string) {
	for _, s := range suites {
		out = append(out, s.pkg)
	}
	return out
}
