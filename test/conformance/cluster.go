package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nodelet/test/netlab/lab"
)

// cluster is what the suite runs against.
type cluster struct {
	kubeconfig string // as the suite sees it
	nodes      int
	// command runs a program where the API server is reached.
	command func(ctx context.Context, name string, args ...string) *exec.Cmd
	close   func()
}

// startPatience is how long the lab may take to be Ready with all images.
const startPatience = 10 * time.Minute

func openCluster(ctx context.Context, o options, archive string) (*cluster, error) {
	if o.kubeconfig != "" {
		return foreignCluster(ctx, o, archive)
	}
	hold, err := alone(o.lab)
	if err != nil {
		return nil, err
	}
	if err := lab.Down(o.lab); err != nil { // what a killed run left
		return nil, err
	}
	l, err := lab.Up(lab.Options{ID: o.lab, Nodes: o.nodes})
	if err != nil {
		return nil, err
	}
	down := sync.OnceFunc(func() {
		defer hold.Close()
		if o.keep {
			fmt.Printf("the lab stays: make lab-shell LAB=%s; make lab-down LAB=%s\n", o.lab, o.lab)
			return
		}
		if err := lab.Down(o.lab); err != nil {
			fmt.Fprintln(os.Stderr, "conformance: end lab:", err)
		}
	})
	if err := startLab(ctx, l, o.bin, archive); err != nil {
		keepLogs(l, o.reports)
		down()
		return nil, fmt.Errorf("start cluster: %w (logs are in %s)", err, o.reports)
	}
	return &cluster{
		kubeconfig: "/var/lib/nodelet/admin.kubeconfig", nodes: o.nodes, command: l.Nodes[0].Command,
		close: sync.OnceFunc(func() {
			keepLogs(l, o.reports)
			down()
		}),
	}, nil
}

// startLab brings the registry and the nodes up.
func startLab(ctx context.Context, l *lab.Lab, bin, archive string) error {
	registries, err := startRegistry(ctx, l, archive)
	if err != nil {
		return err
	}
	c := lab.Cluster{
		Lab: l, Bin: bin, Images: filepath.Dir(archive), Out: os.Stdout,
		Flags: []string{"--registry-config-dir", registries},
	}
	startCtx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return c.Start(startCtx)
}

// keepLogs copies the daemons' logs beside the reports: the lab's go with it.
func keepLogs(l *lab.Lab, reports string) {
	for _, n := range l.Nodes {
		logs, err := filepath.Glob(filepath.Join(n.Dir, "root/var/lib/nodelet/log/*.log"))
		if err != nil {
			continue
		}
		for _, path := range append(logs, filepath.Join(n.Dir, "nodelet.log")) {
			if data, err := os.ReadFile(path); err == nil {
				_ = os.WriteFile(filepath.Join(reports, n.Name+"-"+filepath.Base(path)), data, 0o644)
			}
		}
	}
}

// foreignCluster takes the archive to a cluster that is there already.
func foreignCluster(ctx context.Context, o options, archive string) (*cluster, error) {
	if _, err := os.Stat(o.kubeconfig); err != nil {
		return nil, fmt.Errorf("check -kubeconfig: %w", err)
	}
	if o.importCommand != "" {
		words := strings.Fields(o.importCommand)
		if len(words) == 0 {
			return nil, errors.New("check -import: is empty")
		}
		if err := command(ctx, words[0], append(words[1:], archive)...); err != nil {
			return nil, err
		}
	}
	return &cluster{kubeconfig: o.kubeconfig, nodes: o.nodes, command: exec.CommandContext, close: func() {}}, nil
}
