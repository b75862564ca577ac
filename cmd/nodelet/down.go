package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"nodelet/internal/proc"
	"nodelet/node"
	"nodelet/node/allinone"
)

// stopGrace is how long daemon and control plane get to end by themselves.
const stopGrace = 40 * time.Second

func downCommand() *cobra.Command {
	var place placeFlags
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop daemon, control plane and all containers; data stays",
		Args:  cobra.NoArgs,
	}
	place.add(c.Flags())
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		layout, err := place.layout()
		if err != nil {
			return err
		}
		return down(cmd.Context(), layout, cmd.OutOrStdout())
	}
	return c
}

// down stops the processes first, so that nobody starts anything again, then the containers.
func down(ctx context.Context, layout node.Layout, out io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("not root: run with sudo")
	}
	if err := stop(ctx, "daemon", out, layout.PIDFile(), "nodelet"); err != nil {
		return err
	}
	if err := stop(ctx, "control plane", out, layout.ControlPlanePIDFile(), allinone.ControlPlaneWords(layout)...); err != nil {
		return err
	}
	cfg, err := node.LoadConfig(layout)
	if err != nil {
		return err
	}
	stopped, err := node.StopPods(ctx, cfg)
	if len(stopped) > 0 {
		fmt.Fprintf(out, "stopped %d containers\n", len(stopped))
	}
	return err
}

func stop(ctx context.Context, what string, out io.Writer, pidFile string, words ...string) error {
	p, err := proc.Find(pidFile, words...)
	if err != nil || p == nil {
		return err
	}
	defer p.Close()
	killed, err := p.Stop(ctx, stopGrace)
	if err != nil {
		return fmt.Errorf("stop the %s: %w", what, err)
	}
	if killed {
		fmt.Fprintf(out, "%s (pid %d) did not stop within %s and was killed\n", what, p.PID, stopGrace)
	} else {
		fmt.Fprintf(out, "stopped %s (pid %d)\n", what, p.PID)
	}
	_ = os.Remove(pidFile)
	return nil
}
