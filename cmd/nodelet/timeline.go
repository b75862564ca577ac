package main

import (
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"nodelet/agent/timeline"
)

func timelineCommand() *cobra.Command {
	return reader[timeline.Timeline]{
		use: "timeline pod/NAMESPACE/NAME", short: "Show when each step of a pod's life was reached", args: cobra.ExactArgs(1),
		resource: func(args []string) string { return "timeline?pod=" + url.QueryEscape(args[0]) },
		print:    printTimeline,
	}.command()
}

// printTimeline has the time since the write in the API and since the step before.
func printTimeline(w io.Writer, tl timeline.Timeline) {
	fmt.Fprintf(w, "pod %s, uid %s, written to the API at %s (which keeps whole seconds)\n", tl.Pod, tl.UID, tl.Written.Format(time.RFC3339))
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SINCE WRITE\tSTEP TOOK\tSTEP\tCONTAINER\tDETAIL")
	before := tl.Written
	for _, s := range tl.Steps {
		container := s.Container
		if s.Attempt > 0 {
			container = fmt.Sprintf("%s#%d", s.Container, s.Attempt)
		}
		fmt.Fprintf(t, "%s\t+%s\t%s\t%s\t%s\n", s.At.Sub(tl.Written).Round(time.Millisecond), s.At.Sub(before).Round(time.Millisecond), s.Name, container, s.Detail)
		before = s.At
	}
	_ = t.Flush()
	if tl.Dropped > 0 {
		fmt.Fprintf(w, "%d steps in between are not kept\n", tl.Dropped)
	}
}
