package node

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// routeLibraryLogs sends what client-go says into the daemon's log.
func routeLibraryLogs(log *slog.Logger) {
	klog.SetLogger(logr.FromSlogHandler(quietWatches{log.With("lib", "client-go").Handler()}))
}

// quietWatches drops what reflectors say of every attempt to list or watch:
// kube.Contact says it once.
type quietWatches struct{ slog.Handler }

func (h quietWatches) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "Failed to watch" || r.Message == "Warning: watch ended with error" {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h quietWatches) WithAttrs(a []slog.Attr) slog.Handler {
	return quietWatches{h.Handler.WithAttrs(a)}
}

func (h quietWatches) WithGroup(name string) slog.Handler {
	return quietWatches{h.Handler.WithGroup(name)}
}
