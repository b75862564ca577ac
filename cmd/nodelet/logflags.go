package main

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"github.com/spf13/pflag"

	"nodelet/node"
)

// logFlags say how much is logged, and how.
type logFlags struct {
	level  slog.LevelVar
	format string
}

func (f *logFlags) add(fs *pflag.FlagSet) {
	fs.Var(&levelValue{&f.level}, "log-level", "debug, info, warn or error")
	fs.VarP(&verbosityValue{to: &f.level}, "v", "v", "the same as a number, as for other Kubernetes programs: debug from 4 on")
	fs.StringVar(&f.format, "logging-format", "text", "text or json")
}

// logger writes lines to w; its level follows the flag's value, which may change later.
func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: &f.level}
	switch f.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--logging-format %q: must be text or json", f.format)
}

// levelValue is a level by its name.
type levelValue struct{ to *slog.LevelVar }

// String implements pflag.Value.
func (v *levelValue) String() string {
	if v.to == nil {
		return ""
	}
	return v.to.Level().String()
}

// Set implements pflag.Value.
func (v *levelValue) Set(text string) error {
	if err := v.to.UnmarshalText([]byte(text)); err != nil {
		return fmt.Errorf("%q: must be debug, info, warn or error", text)
	}
	return nil
}

// Type implements pflag.Value.
func (v *levelValue) Type() string { return "level" }

// verbosityValue is a level by klog's number.
type verbosityValue struct {
	to  *slog.LevelVar
	set int
}

// String implements pflag.Value.
func (v *verbosityValue) String() string { return strconv.Itoa(v.set) }

// Set implements pflag.Value.
func (v *verbosityValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%q: must be a number", text)
	}
	v.set = n
	v.to.Set(node.LevelOf(n))
	return nil
}

// Type implements pflag.Value.
func (v *verbosityValue) Type() string { return "number" }
