package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"nodelet/internal/version"
	"nodelet/internal/zpages"
)

// kubeProxy is the component that the metrics port stands for, also where the proxy does not run.
const kubeProxy = "kube-proxy"

// serveMetrics serves what kube-proxy serves at its metrics port, and /ready.
func (n *Node) serveMetrics(ctx context.Context) error {
	srv := &http.Server{Addr: n.cfg.MetricsAddr.String(), Handler: n.metricsPort(), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
	stopped := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stopped()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listen on %s: %w (use another with --metrics-address)", n.cfg.MetricsAddr, err)
	}
	return nil
}

// metricsPort has all paths; /statusz, the last, names the others.
func (n *Node) metricsPort() http.Handler {
	mux := http.NewServeMux()
	var paths []string
	get := func(path string, h http.HandlerFunc) {
		mux.HandleFunc("GET "+path, h)
		paths = append(paths, path)
	}
	get("/metrics", n.metrics.Handler().ServeHTTP)
	get("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "ok") })
	get("/ready", n.answerReady)
	get("/flagz", zpages.Flagz(kubeProxy, n.cfg.Flags).ServeHTTP)
	if n.proxy != nil {
		get("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, n.proxy.Choice().Mode) })
		get("/configz", func(w http.ResponseWriter, r *http.Request) {
			zpages.Configz("kubeproxy.config.k8s.io", n.cfg.kubeProxyConfiguration(n.proxy.Choice().Mode)).ServeHTTP(w, r)
		})
	}
	if n.cfg.ProxyOptions.Profiling {
		get("/debug/pprof/", pprof.Index)
		get("/debug/pprof/cmdline", pprof.Cmdline)
		get("/debug/pprof/profile", pprof.Profile)
		get("/debug/pprof/symbol", pprof.Symbol)
		get("/debug/pprof/trace", pprof.Trace)
	}
	status := n.statusz()
	status.Component, status.Paths = kubeProxy, paths
	get("/statusz", zpages.Statusz(status).ServeHTTP)
	return mux
}

// statusz is what /statusz of every component of this daemon shows, but for its name and paths.
func (n *Node) statusz() zpages.Status {
	emulates, _, _ := strings.Cut(strings.TrimPrefix(version.Kubernetes, "v1."), ".")
	return zpages.Status{Started: n.started, Version: version.Kubernetes + "+nodelet." + version.Version, Emulates: "1." + emulates}
}
