package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"nodelet/node"
)

func resetCommand() *cobra.Command {
	var place placeFlags
	var yes, verify bool
	c := &cobra.Command{
		Use:   "reset",
		Short: "Stop everything and remove every trace: rules, links, mounts, cgroups, data",
		Args:  cobra.NoArgs,
	}
	place.add(c.Flags())
	c.Flags().BoolVar(&yes, "yes", false, "do it: all pods, images and the cluster's data are lost")
	c.Flags().BoolVar(&verify, "verify", false, "change nothing; list what is left, and fail if there is anything")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		layout, err := place.layout()
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if verify {
			left, err := node.Residue(cmd.Context(), layout)
			for _, l := range left {
				fmt.Fprintln(out, l)
			}
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("%d things of nodelet are left: run nodelet reset --yes", len(left))
			}
			if err == nil {
				fmt.Fprintln(out, "nothing of nodelet is left on this machine")
			}
			return err
		}
		if !yes {
			return errors.New("all pods, images and the cluster's data in " + layout.Data + " would be lost: confirm with --yes")
		}
		if err := down(cmd.Context(), layout, out); err != nil {
			return err
		}
		removed, err := node.Cleanup(cmd.Context(), layout)
		for _, r := range removed {
			fmt.Fprintln(out, "removed", r)
		}
		return err
	}
	return c
}
