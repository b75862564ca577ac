package node

import (
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
)

// routeLibraryLogs sends what client-go says into the daemon's log. Its
// verbose levels stay off; what it reports as errors of watches is known from
// kube.Contact, which says it once.
func routeLibraryLogs(log *slog.Logger) {
	klog.SetLogger(logr.FromSlogHandler(log.With("lib", "client-go").Handler()))
}
