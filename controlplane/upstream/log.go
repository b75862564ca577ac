package upstream

import (
	"bytes"
	"context"
	"flag"
	"io"
	"log/slog"
	"regexp"

	"k8s.io/klog/v2"
)

// RouteLogs makes klog, through which all of upstream logs, write to log.
// Informational lines are for people who debug upstream and go one level down.
// klog's own slog bridge is not used: it turns warnings into information.
func RouteLogs(log *slog.Logger) {
	fs := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(fs)
	for name, value := range map[string]string{
		"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL", "one_output": "true",
	} {
		if err := fs.Set(name, value); err != nil {
			panic(err) // a constant is wrong
		}
	}
	klog.SetOutputBySeverity("INFO", sink(log, slog.LevelDebug))
	klog.SetOutputBySeverity("WARNING", sink(log, slog.LevelWarn))
	klog.SetOutputBySeverity("ERROR", sink(log, slog.LevelError))
	klog.SetOutputBySeverity("FATAL", sink(log, slog.LevelError))
}

func sink(log *slog.Logger, l slog.Level) io.Writer {
	if !log.Enabled(context.Background(), l) {
		return io.Discard
	}
	return &writer{log, l}
}

type writer struct {
	log   *slog.Logger
	level slog.Level
}

// header is what klog puts before a message: level, date, time, thread, place.
var header = regexp.MustCompile(`^[IWEF]\d{4} [\d:.]+ +\d+ ([^\]]+)\] `)

// noise is what upstream calls a warning or an error, although it always says
// it and nothing is wrong. It goes down to the other informational lines.
var noise = []*regexp.Regexp{
	regexp.MustCompile(`^Skipping API \S+ because it has no resources`),  // versions that no longer exist
	regexp.MustCompile(`^The manifest file is empty, ignoring`),          // metrics allow list: not given
	regexp.MustCompile(`^Resetting endpoints for master service`),        // at every start and end
	regexp.MustCompile(`^Failed to shutdown server: context deadline`),   // watches never end by themselves
	regexp.MustCompile(`kube-apiserver-legacy-service-account-token-tr`), // before kube-system exists; tried again
	regexp.MustCompile(`^Flexvolume plugin directory at \S+ does not exist`),
}

func (w *writer) severity(line []byte) slog.Level {
	for _, n := range noise {
		if n.Match(line) {
			return slog.LevelDebug
		}
	}
	return w.level
}

// Write takes one klog entry, which may have several lines.
func (w *writer) Write(p []byte) (int, error) {
	line := bytes.TrimRight(p, "\n")
	if bytes.HasPrefix(line, []byte("goroutine ")) {
		return len(p), nil // every stack, once per level, after a fatal line
	}
	attrs := []slog.Attr{slog.String("part", "upstream")}
	if m := header.FindSubmatch(line); m != nil {
		attrs = append(attrs, slog.String("at", string(m[1])))
		line = line[len(m[0]):]
	}
	w.log.LogAttrs(context.Background(), w.severity(line), string(line), attrs...)
	return len(p), nil
}
