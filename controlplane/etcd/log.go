package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger joins etcd's zap logging to slog. Where etcd would end the process
// (Fatal) or panic, fail is told instead and the goroutine ends, so that the
// process can stop in order and say why in one line.
func newLogger(log *slog.Logger, fail func(error)) *zap.Logger {
	hook := fatal{fail}
	return zap.New(core{log: log}, zap.WithFatalHook(hook), zap.WithPanicHook(hook))
}

type fatal struct{ fail func(error) }

// OnWrite implements zapcore.CheckWriteHook.
func (f fatal) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := fmt.Errorf("%s", e.Message)
	for k, v := range decode(fields) {
		if k == "error" {
			err = fmt.Errorf("%s: %v", e.Message, v)
		}
	}
	f.fail(err)
	runtime.Goexit()
}

// core is a zapcore.Core over slog. etcd's informational lines are for people
// who debug etcd: they go one level down.
type core struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func (c core) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), level(l))
}

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log, append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// noise is what etcd calls a warning or an error although nothing is wrong.
var noise = map[string]bool{
	"simple token is not cryptographically signed":  true, // etcd's own users are not in use
	"Failed to detect schema version":               true, // of a database just made
	"failed to update storage version":              true, // of a database just made; tried again
	"setting up serving from embedded etcd failed.": true, // said at every end; failures come by Err
}

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	l := level(e.Level)
	if noise[e.Message] {
		l = slog.LevelDebug
	}
	var attrs []slog.Attr
	for k, v := range decode(append(c.fields[:len(c.fields):len(c.fields)], fields...)) {
		attrs = append(attrs, slog.Any(k, v))
	}
	c.log.LogAttrs(context.Background(), l, e.Message, attrs...)
	return nil
}

func (core) Sync() error { return nil }

func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l >= zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func decode(fields []zapcore.Field) map[string]any {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	return enc.Fields
}

func contains(s string, any ...string) bool {
	for _, a := range any {
		if strings.Contains(s, a) {
			return true
		}
	}
	return false
}
