package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	out := flags.String("out", "bin/images", "directory to write NAME.tar to")
	arch := flags.String("arch", runtime.GOARCH, "architecture of the images")
	suffix := flags.String("suffix", "", "put between NAME and .tar")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: images [flags] [names...]\nnames: %s\n", strings.Join(names(), " "))
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted := flags.Args()
	if len(wanted) == 0 {
		wanted = slices.DeleteFunc(names(), func(name string) bool { return onRequest[name] })
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return fmt.Errorf("make output directory: %w", err)
	}
	for _, name := range wanted {
		build, ok := catalog[name]
		if !ok {
			return fmt.Errorf("build image %q: there is none of that name, only %s", name, strings.Join(names(), " "))
		}
		spec, err := build(*arch)
		if err != nil {
			return fmt.Errorf("build image %s: %w", name, err)
		}
		path := filepath.Join(*out, name+*suffix+".tar")
		if err := write(path, spec); err != nil {
			return fmt.Errorf("build image %s: %w", name, err)
		}
		fmt.Printf("%s\t%s\n", spec.name, path)
	}
	return nil
}

func names() []string {
	var all []string
	for name := range catalog {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
