package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what to measure.
type options struct {
	bin, json  string
	runs, pods int
	idle       time.Duration
	idlePods   int
	only       string
}

// parts can be chosen with -only.
var parts = []string{"start", "pods", "idle"}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "directory of the programs and images (make build images)")
	flag.StringVar(&o.json, "json", "bin/bench.json", "where to write all measurements, empty for nowhere")
	flag.IntVar(&o.runs, "runs", 5, "how often to start a cluster")
	flag.IntVar(&o.pods, "pods", 30, "how many pods to start, one after the other, in each run")
	flag.DurationVar(&o.idle, "idle", 30*time.Second, "how long to measure the CPU of an idle cluster")
	flag.IntVar(&o.idlePods, "idle-pods", 10, "how many pods run in an idle cluster")
	flag.StringVar(&o.only, "only", "", "measure only these, separated by commas: "+strings.Join(parts, ","))
	flag.Parse()
	if err := start(o); err != nil {
		fmt.Fprintln(os.Stderr, "perf:", err)
		os.Exit(1)
	}
}

func start(o options) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it starts containers and programs the kernel")
	}
	for part := range strings.SplitSeq(o.only, ",") {
		if part != "" && !slices.Contains(parts, part) {
			return fmt.Errorf("-only %s: there are only %s", part, strings.Join(parts, ", "))
		}
	}
	if o.runs < 1 || o.pods < 1 || o.idlePods < 0 {
		return errors.New("-runs and -pods must be at least 1")
	}
	var err error
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	for _, f := range []string{"nodelet", "nodelet-cni", "nodelet-controlplane", "containerd-shim-runc-v2", "images/hello.tar"} {
		if _, err := os.Stat(filepath.Join(o.bin, f)); err != nil {
			return fmt.Errorf("%w: run make build images first", err)
		}
	}
	if os.Getenv(insideEnv) == "" {
		return outside()
	}
	if err := inside(); err != nil {
		return fmt.Errorf("set up namespaces: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return measure(ctx, o)
}

func (o options) wants(part string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), part)
}

// measure makes all runs and reports. What was measured before an error is reported, too.
func measure(ctx context.Context, o options) error {
	rep := &report{Machine: machine(o.bin), Figures: figures()}
	var err error
	for i := range o.runs {
		fmt.Fprintf(os.Stderr, "run %d of %d, load %s\n", i+1, o.runs, load())
		if err = run(ctx, o, rep); err != nil {
			err = fmt.Errorf("run %d: %w", i+1, err)
			break
		}
	}
	rep.print(os.Stdout)
	if o.json != "" {
		err = errors.Join(err, rep.write(o.json))
	}
	return err
}

// run is one cluster from nothing to its removal.
func run(ctx context.Context, o options, rep *report) (err error) {
	rep.Loads = append(rep.Loads, load())
	c, err := newCluster(o.bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.remove()) }()
	first, err := c.start(ctx)
	if err != nil {
		return err
	}
	if o.wants("start") {
		rep.add("start, empty data directory, to Ready", first.ready)
		rep.add("start, empty data directory, to the first DNS answer", first.dns)
		if err := c.nodelet(ctx, "down"); err != nil {
			return err
		}
		again, err := c.start(ctx)
		if err != nil {
			return err
		}
		rep.add("start, later, to Ready", again.ready)
		rep.add("start, later, to the first DNS answer", again.dns)
	}
	if !o.wants("pods") && !o.wants("idle") {
		return nil
	}
	if err := c.nodelet(ctx, "images", "import", filepath.Join(o.bin, "images", "hello.tar")); err != nil {
		return err
	}
	api, err := c.api()
	if err != nil {
		return err
	}
	if err := api.waitFor(ctx, "/api/v1/namespaces/default/serviceaccounts/default"); err != nil {
		return err
	}
	// Idle first: what a burst of pods leaves on the heaps takes minutes to be given back.
	if o.wants("idle") {
		if err := idle(ctx, c, api, o, rep); err != nil {
			return err
		}
	}
	if o.wants("pods") {
		if err := startPods(ctx, api, o.pods, rep); err != nil {
			return err
		}
		if err := floor(ctx, c, o.pods, rep); err != nil {
			return err
		}
		rep.addRatio("one pod, API write to Ready, to the floor", "one pod, API write to Ready", "one pod, raw CRI calls: the floor")
	}
	return nil
}
