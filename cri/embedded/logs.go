package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/sirupsen/logrus"
)

// routeLogs sends what containerd logs to log, and its fatal errors, which would end the whole
// process, to failed. containerd logs through logrus' one global logger.
//
// Its info messages are a protocol of every call; they become debug messages here.
func routeLogs(log *slog.Logger, failed chan<- error) {
	logger := logrus.StandardLogger()
	logger.SetOutput(io.Discard)
	logger.SetFormatter(noFormat{})
	logger.ReplaceHooks(logrus.LevelHooks{})
	logger.AddHook(&logHook{log: log, failed: failed})
	logger.ExitFunc = func(int) {} // the hook has sent the error
	logger.SetLevel(logrus.WarnLevel)
	if log.Enabled(context.Background(), slog.LevelDebug) {
		logger.SetLevel(logrus.InfoLevel)
	}
}

type logHook struct {
	log    *slog.Logger
	failed chan<- error
}

// Levels is all of them: the logger's own level decides.
func (h *logHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire logs one entry.
func (h *logHook) Fire(entry *logrus.Entry) error {
	level := levelOf(entry)
	attrs := make([]slog.Attr, 0, len(entry.Data))
	for k, v := range entry.Data {
		attrs = append(attrs, slog.Any(k, v))
	}
	h.log.LogAttrs(context.Background(), level, entry.Message, attrs...)
	if entry.Level == logrus.FatalLevel {
		err, _ := entry.Data[logrus.ErrorKey].(error)
		if err == nil {
			err = errors.New("no cause given")
		}
		report(h.failed, fmt.Errorf("run the embedded containerd: %s: %w", entry.Message, err))
	}
	return nil
}

// expected are warnings that come at a start and call for nothing: most file systems have no
// fsverity, and the network configuration is written only once the node has its pod CIDR.
var expected = []string{
	"failed check for fsverity support",
	"failed to load cni during init, please check CRI plugin status before setting up network for pods",
}

func levelOf(entry *logrus.Entry) slog.Level {
	switch entry.Level {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		return slog.LevelError
	case logrus.WarnLevel:
		if slices.Contains(expected, entry.Message) {
			return slog.LevelDebug
		}
		return slog.LevelWarn
	case logrus.InfoLevel, logrus.DebugLevel, logrus.TraceLevel:
	}
	return slog.LevelDebug
}

// report sends err unless there is one already: the first one counts.
func report(failed chan<- error, err error) {
	select {
	case failed <- err:
	default:
	}
}

type noFormat struct{}

// Format gives nothing: the hook has the entry.
func (noFormat) Format(*logrus.Entry) ([]byte, error) { return nil, nil }
