// Command netlab makes a cluster of several nodes on this machine, each in its
// own namespaces, for people and for `make conformance`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"nodelet/test/netlab/lab"
)

const usage = `usage: netlab up [--nodes N] [--id ID] [--empty] [--bin DIR] [--images DIR]
       netlab exec [--id ID] N COMMAND [ARGUMENT...]
       netlab show [--id ID]
       netlab down [--id ID]`

// usualID names the lab when nobody does.
const usualID = "lab"

func main() {
	lab.Hold()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	err := run(ctx, os.Args[1:])
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode()) // exec: the command's own
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "netlab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	id := fs.String("id", usualID, "name of the lab")
	switch args[0] {
	case "up":
		return up(ctx, fs, id, args[1:])
	case "exec":
		return enter(ctx, fs, id, args[1:])
	case "show":
		return withLab(fs, id, args[1:], show)
	case "down":
		if err := fs.Parse(args[1:]); err != nil {
			return err
		}
		return lab.Down(*id)
	}
	return fmt.Errorf("unknown command %q\n%s", args[0], usage)
}

func up(ctx context.Context, fs *flag.FlagSet, id *string, args []string) error {
	nodes := fs.Int("nodes", 2, "number of nodes")
	empty := fs.Bool("empty", false, "only the nodes, without a cluster on them")
	bin := fs.String("bin", "bin", "directory of the programs")
	images := fs.String("images", "bin/images", "directory of image archives to import")
	timeout := fs.Duration("timeout", 5*time.Minute, "how long to wait for the cluster")
	if err := fs.Parse(args); err != nil {
		return err
	}
	binDir, err1 := filepath.Abs(*bin)
	imageDir, err2 := filepath.Abs(*images)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if !*empty {
		for _, program := range []string{"nodelet", "nodelet-cni", "nodelet-controlplane", "containerd-shim-runc-v2"} {
			if _, err := os.Stat(filepath.Join(binDir, program)); err != nil {
				return fmt.Errorf("look for programs: %w (run make build, or name their directory with --bin)", err)
			}
		}
	}
	l, err := lab.Up(lab.Options{ID: *id, Nodes: *nodes})
	if err != nil {
		return err
	}
	if *empty {
		return show(l)
	}
	c := lab.Cluster{Lab: l, Bin: binDir, Images: imageDir, Out: os.Stdout}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		return fmt.Errorf("%w\nThe lab stays for you to look at; `make lab-down` removes it", err)
	}
	fmt.Printf("kubeconfig (for use inside a node): %s\n", c.Kubeconfig())
	fmt.Println("try: make lab-shell NODE=1 CMD='bin/nodelet kubectl get nodes -o wide'")
	return show(l)
}

func withLab(fs *flag.FlagSet, id *string, args []string, fn func(*lab.Lab) error) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	l, err := lab.Open(*id)
	if err != nil {
		return err
	}
	return fn(l)
}

func show(l *lab.Lab) error {
	for i, n := range l.Nodes {
		state := "running"
		if !n.Running() {
			state = "gone"
		}
		fmt.Printf("%s %s %s %s, files in %s\n  enter: make lab-shell NODE=%d%s\n", n.Name, n.IP, n.IP6, state, n.Dir, i+1, labArg(l.ID))
	}
	return nil
}

// labArg is what names another lab than the usual one to make.
func labArg(id string) string {
	if id == usualID {
		return ""
	}
	return " LAB=" + id
}

func enter(ctx context.Context, fs *flag.FlagSet, id *string, args []string) error {
	return withLab(fs, id, args, func(l *lab.Lab) error {
		if fs.NArg() < 2 {
			return errors.New(usage)
		}
		number, err := strconv.Atoi(fs.Arg(0))
		if err != nil {
			return fmt.Errorf("%q is not the number of a node", fs.Arg(0))
		}
		n, err := l.Node(number)
		if err != nil {
			return err
		}
		wd, err := os.Getwd()
		if err != nil {
			return err
		}
		// The files of the machine are the node's, too, but for those it has of its own.
		cmd := n.Command(ctx, "sh", append([]string{"-c", `cd "$0" && exec "$@"`, wd}, fs.Args()[1:]...)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		return cmd.Run()
	})
}
