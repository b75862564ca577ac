package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"nodelet/test/netlab/lab"
)

// options say what to run, against what.
type options struct {
	focus, skip string
	lab         string
	nodes       int
	procs       int

	cache, bin, reports string
	kubeconfig          string // of a cluster that is there; empty: a lab
	importCommand       string // run for it with the archive as last argument
	keep, prepareOnly   bool
	coredns             bool // into agnhost's image
	csi                 bool // the programs beside a CSI driver
}

func main() {
	lab.Hold()
	holdRegistry()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	nodes, err := strconv.Atoi(cmp.Or(os.Getenv("NODES"), "1"))
	if err != nil || nodes < 1 {
		return o, fmt.Errorf("check NODES=%q: must be a number of nodes", os.Getenv("NODES"))
	}
	f := flag.NewFlagSet("conformance", flag.ContinueOnError)
	f.StringVar(&o.focus, "focus", cmp.Or(os.Getenv("FOCUS"), `\[Conformance\]`), "regular expression of specs to run (FOCUS)")
	f.StringVar(&o.skip, "skip", os.Getenv("SKIP"), "regular expression of specs not to run (SKIP)")
	f.IntVar(&o.nodes, "nodes", nodes, "nodes of the lab (NODES)")
	f.IntVar(&o.procs, "procs", 8, "specs at a time; Serial ones always run alone, after the others")
	f.StringVar(&o.cache, "cache", ".cache/conformance", "where programs and images are kept between runs")
	f.StringVar(&o.bin, "bin", "bin", "where make build left nodelet")
	f.StringVar(&o.reports, "reports", "", "where junit files and logs go (default CACHE/reports)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "use this cluster instead of a lab")
	f.StringVar(&o.importCommand, "import", "", "command that takes the image archive to that cluster's nodes; the path is added")
	f.StringVar(&o.lab, "lab", "conformance", "name of the lab; runs at the same time need different ones, and different reports")
	f.BoolVar(&o.keep, "keep", false, "leave the lab up for a look")
	f.BoolVar(&o.coredns, "coredns", os.Getenv("COREDNS") != "", "put CoreDNS into agnhost's image, where upstream's has it: a few specs of pods' DNS settings start it (COREDNS)")
	f.BoolVar(&o.csi, "csi", os.Getenv("CSI") != "", "make the images that stand beside a CSI driver: specs of CSI Mock need them (CSI)")
	f.BoolVar(&o.prepareOnly, "prepare", false, "only build programs and images")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("read flags: %q is not one", strings.Join(f.Args(), " "))
	}
	o.reports = cmp.Or(o.reports, filepath.Join(o.cache, "reports"))
	for _, dir := range []*string{&o.cache, &o.bin, &o.reports} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return o, err
		}
	}
	return o, nil
}

// prepare builds programs and images.
func prepare(ctx context.Context, o options) (programs, string, error) {
	hold, err := o.lock()
	if err != nil {
		return nil, "", err
	}
	defer hold.Close()
	p, err := buildPrograms(ctx, o)
	if err != nil {
		return nil, "", err
	}
	archive, err := buildImages(ctx, o, p)
	return p, archive, err
}

func run(ctx context.Context, o options) error {
	programs, archive, err := prepare(ctx, o)
	if err != nil || o.prepareOnly {
		return err
	}
	if err := errors.Join(os.RemoveAll(o.reports), os.MkdirAll(o.reports, 0o755)); err != nil {
		return fmt.Errorf("empty report folder: %w", err)
	}
	c, err := openCluster(ctx, o, archive)
	if err != nil {
		return err
	}
	defer c.close()
	if err := runSuite(ctx, o, programs, c); err != nil {
		return err
	}
	total, err := readReports(o.reports)
	if err != nil {
		return err
	}
	total.print(os.Stdout)
	if total.failed() > 0 || total.passed == 0 {
		c.close()
		os.Exit(1) // the table has said everything
	}
	return nil
}
