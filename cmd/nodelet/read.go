package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"nodelet/internal/control"
)

// reader makes a command that asks the daemon for one resource and prints it.
type reader[T any] struct {
	use, short string
	args       cobra.PositionalArgs
	resource   func(args []string) string
	print      func(w io.Writer, v T)
	// check says what is wrong with an answer; may be nil.
	check func(args []string, v T) error
}

func (r reader[T]) command() *cobra.Command {
	var place placeFlags
	var output string
	c := &cobra.Command{Use: r.use, Short: r.short, Args: r.args}
	place.add(c.Flags())
	outputFlag(c, &output)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		layout, err := place.layout()
		if err != nil {
			return err
		}
		if output != "" && output != "json" {
			return fmt.Errorf("--output %q: only json is known", output)
		}
		var v T
		if err := control.NewClient(layout.Socket()).Get(cmd.Context(), r.resource(args), &v); err != nil {
			return err
		}
		if r.check != nil {
			if err := r.check(args, v); err != nil {
				return err
			}
		}
		if output == "json" {
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(v)
		}
		r.print(cmd.OutOrStdout(), v)
		return nil
	}
	return c
}

func statusCommand() *cobra.Command {
	return reader[control.Status]{
		use: "status", short: "Show how the daemon and each of its parts is", args: cobra.NoArgs,
		resource: func([]string) string { return "status" },
		print: func(w io.Writer, s control.Status) {
			fmt.Fprintf(w, "node %s ready=%t, nodelet %s pid %d since %s\n", s.Node, s.NodeReady, s.Version, s.PID, s.Started.Format("2006-01-02 15:04:05"))
			fmt.Fprintf(w, "runtime %s\nAPI server %s", s.Runtime, s.APIServer)
			if s.APIProblem != "" {
				fmt.Fprintf(w, " NOT USABLE: %s", s.APIProblem)
			}
			fmt.Fprintln(w)
			t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
			for _, name := range sortedKeys(s.Loops) {
				fmt.Fprintf(t, "%s\t%s\n", name, s.Loops[name])
			}
			_ = t.Flush()
			printRevisions(w, s.Revisions)
		},
	}.command()
}

func revCommand() *cobra.Command {
	return reader[control.Revisions]{
		use: "rev", short: "Show the store's revision and which one each part has in the kernel", args: cobra.NoArgs,
		resource: func([]string) string { return "rev" },
		print:    printRevisions,
	}.command()
}

func printRevisions(w io.Writer, r control.Revisions) {
	fmt.Fprintf(w, "store %d", r.Store)
	for _, f := range sortedKeys(r.Applied) {
		fmt.Fprintf(w, " | %s %d", f, r.Applied[f])
	}
	fmt.Fprintln(w)
}

// filtered asks with the first argument as filter.
func filtered(resource string) func([]string) string {
	return func(args []string) string {
		if len(args) == 0 {
			return resource
		}
		return resource + "?filter=" + url.QueryEscape(args[0])
	}
}

// found says so when a filter leaves nothing.
func found[T any](args []string, list []T) error {
	if len(list) == 0 && len(args) > 0 {
		return fmt.Errorf("no Service has %q in its namespace/name: see nodelet services", args[0])
	}
	return nil
}

func servicesCommand() *cobra.Command {
	return reader[[]control.Service]{
		use: "services [namespace/name]", short: "List the services as the proxy has them", args: cobra.MaximumNArgs(1),
		resource: filtered("services"), check: found[control.Service],
		print: func(w io.Writer, list []control.Service) {
			t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "SERVICE\tPORT\tKIND\tFRONTEND\tENDPOINTS\tNOTES")
			for _, s := range list {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", s.Service, s.Port, s.Kind, s.Frontend, s.Endpoints, s.Notes)
			}
			_ = t.Flush()
		},
	}.command()
}

func endpointsCommand() *cobra.Command {
	return reader[[]control.Endpoint]{
		use: "endpoints [namespace/name]", short: "List the endpoints of services, and why each is in use or not", args: cobra.MaximumNArgs(1),
		resource: filtered("endpoints"), check: found[control.Endpoint],
		print: func(w io.Writer, list []control.Endpoint) {
			t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "SERVICE\tPORT\tENDPOINT\tUSED\tREASON\tPOD\tNODE")
			for _, e := range list {
				fmt.Fprintf(t, "%s\t%s\t%s\t%t\t%s\t%s\t%s\n", e.Service, e.Port, e.Endpoint, e.Used, e.Reason, e.Pod, e.Node)
			}
			_ = t.Flush()
		},
	}.command()
}

func snapshotCommand() *cobra.Command {
	c := reader[any]{
		use: "snapshot TABLE", short: "Dump one table of the store (pods, services, slices, nodes, runtime, images, volumes, probes)", args: cobra.ExactArgs(1),
		resource: func(args []string) string { return "snapshot/" + url.PathEscape(args[0]) },
		print: func(w io.Writer, v any) {
			enc := json.NewEncoder(w)
			enc.SetIndent("", "  ")
			_ = enc.Encode(v)
		},
	}.command()
	c.Hidden = true
	return c
}

func imagesCommand() *cobra.Command {
	list := reader[[]control.Image]{
		use: "list", short: "List the images of the runtime", args: cobra.NoArgs,
		resource: func([]string) string { return "images" },
		print: func(w io.Writer, images []control.Image) {
			t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "IMAGE\tSIZE\tID")
			for _, i := range images {
				for _, n := range i.Names {
					fmt.Fprintf(t, "%s\t%d kB\t%.19s\n", n, i.Bytes/1000, i.ID)
				}
			}
			_ = t.Flush()
		},
	}.command()
	return group("images", "Work with the container runtime's images", list, importCommand())
}

func importCommand() *cobra.Command {
	var place placeFlags
	c := &cobra.Command{Use: "import FILE...", Short: "Import OCI or Docker archives, so that no registry is needed", Args: cobra.MinimumNArgs(1)}
	place.add(c.Flags())
	c.RunE = func(cmd *cobra.Command, files []string) error {
		layout, err := place.layout()
		if err != nil {
			return err
		}
		client := control.NewClient(layout.Socket())
		for _, file := range files {
			f, err := os.Open(file)
			if err != nil {
				return fmt.Errorf("open archive: %w", err)
			}
			var names []string
			err = client.Post(cmd.Context(), "images", f, &names)
			_ = f.Close()
			if err != nil {
				return fmt.Errorf("import %s: %w", file, err)
			}
			for _, n := range names {
				fmt.Fprintln(cmd.OutOrStdout(), "imported", n)
			}
		}
		return nil
	}
	return c
}

func sortedKeys[K interface{ ~string }, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
