package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/server/crilog"
	"nodelet/agent/server/nodelog"
	"nodelet/agent/stats"
	"nodelet/internal/store"
	"nodelet/internal/zpages"
)

// Config is where and how to serve. Zero limits and times mean the defaults.
type Config struct {
	// NodeName is the node that authorisation asks about.
	NodeName string
	// Address is where to listen, as "0.0.0.0:10250"; HealthAddress as "127.0.0.1:10248", empty for none.
	Address, HealthAddress string
	// CertFile and KeyFile are the serving certificate; ClientCAFile verifies client certificates,
	// empty for none. All are read again when they change.
	CertFile, KeyFile, ClientCAFile string
	// MinVersion and CipherSuites as crypto/tls has them; zero means TLS 1.2 and Go's own choice.
	MinVersion   uint16
	CipherSuites []uint16
	// PodLogsRoot is the directory that all container logs are below.
	PodLogsRoot string
	// SystemLogs, if not empty, is a directory served at /logs/ (/var/log); with LogQuery, that
	// answers queries for the logs of services as well.
	SystemLogs string
	LogQuery   bool
	// Profiling serves /debug/pprof.
	Profiling bool
	// Configz is what /configz shows; it must be fit for JSON.
	Configz any
	// Status is what /statusz shows, but for the paths; Flags are shown at /flagz.
	Status zpages.Status
	Flags  map[string]string
	// MaxConnections, MaxStreams and MaxPodStreams bound connections, and streams (exec, attach,
	// port-forward, followed logs) in all and for one pod.
	MaxConnections, MaxStreams, MaxPodStreams int
	// TokenTTL is how long the API server's word on a token is believed (2 min), AllowedTTL and DeniedTTL that on
	// what somebody may do (5 min and 30 s).
	TokenTTL, AllowedTTL, DeniedTTL time.Duration
	// RequestTimeout bounds what is no stream; IdleTimeout a stream on which nothing moves (4 h).
	RequestTimeout, IdleTimeout time.Duration
}

// Runtime is what the package asks of the container runtime.
type Runtime interface {
	Exec(context.Context, *runtimev1.ExecRequest) (*runtimev1.ExecResponse, error)
	ExecSync(context.Context, *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error)
	Attach(context.Context, *runtimev1.AttachRequest) (*runtimev1.AttachResponse, error)
	PortForward(context.Context, *runtimev1.PortForwardRequest) (*runtimev1.PortForwardResponse, error)
}

// Reviews is what the package asks of the API server.
type Reviews interface {
	TokenReview(context.Context, *authenticationv1.TokenReview) (*authenticationv1.TokenReview, error)
	SubjectAccessReview(context.Context, *authorizationv1.SubjectAccessReview) (*authorizationv1.SubjectAccessReview, error)
}

// Stats measures; *stats.Stats does.
type Stats interface {
	Read(ctx context.Context, depth stats.Depth) stats.All
}

// Metrics are the sets served below /metrics. Nil ones are not served.
type Metrics struct {
	Process, Probes http.Handler
	// Request, if not nil, is told of each finished request.
	Request func(method, path string, long bool, took time.Duration)
}

// Deps are the seams of a Server.
type Deps struct {
	Store   *store.Store
	Runtime Runtime
	Reviews Reviews
	Stats   Stats
	Metrics Metrics
	Log     *slog.Logger
	// Verbosity changes how much is logged, in klog's levels; nil: it cannot be changed.
	Verbosity func(level int)
	// SyncLoop says what keeps pods from being looked after, nil when nothing does; may be nil.
	SyncLoop func() error
}

// Server serves the kubelet API.
type Server struct {
	cfg     Config
	deps    Deps
	certs   *certificates
	tokens  *tokens
	access  *access
	streams *streams
	logs    *crilog.Reader
	usage   *rates
	queries *nodelog.Reader
	routes  map[kind]handler
}

// handler answers one parsed and allowed request.
type handler func(w http.ResponseWriter, r *http.Request, req request)

// Limits, where the configuration has none.
const (
	maxHeader      = 1 << 20 // as upstream: a command to execute travels in the URL
	maxURL         = 256 << 10
	maxBody        = 1 << 20
	maxConnections = 1024
	maxStreams     = 512
	maxPodStreams  = 64
	requestTimeout = time.Minute
	idleTimeout    = 4 * time.Hour
	headerTimeout  = 10 * time.Second
	keepAlive      = 90 * time.Second // as upstream: Go's clients keep idle connections that long
)

// New reads the certificates. It does not listen yet.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg.MaxConnections = cmp.Or(cfg.MaxConnections, maxConnections)
	cfg.MaxStreams = cmp.Or(cfg.MaxStreams, maxStreams)
	cfg.MaxPodStreams = cmp.Or(cfg.MaxPodStreams, maxPodStreams)
	cfg.RequestTimeout = cmp.Or(cfg.RequestTimeout, requestTimeout)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, idleTimeout)
	cfg.TokenTTL = cmp.Or(cfg.TokenTTL, tokenTTL)
	cfg.AllowedTTL, cfg.DeniedTTL = cmp.Or(cfg.AllowedTTL, allowedTTL), cmp.Or(cfg.DeniedTTL, deniedTTL)
	if cfg.NodeName == "" {
		return nil, errors.New("kubelet API: the node has no name")
	}
	certs, err := newCertificates(cfg, deps.Log)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, deps: deps, certs: certs,
		tokens: newTokens(deps.Reviews, cfg.TokenTTL), access: newAccess(deps.Reviews, &cfg),
		streams: newStreams(cfg.MaxStreams, cfg.MaxPodStreams),
		usage:   newRates(),
		queries: nodelog.New(nodelog.Config{Dir: cfg.SystemLogs, Journalctl: "journalctl", Aliases: map[string]string{"kubelet": "nodelet"}}),
	}
	s.routes = s.handlers()
	return s, nil
}

// handlers is what is served: every kind of request that parse knows.
func (s *Server) handlers() map[kind]handler {
	return map[kind]handler{
		kindHealth:          s.healthz,
		kindPods:            s.pods,
		kindRunningPods:     s.runningPods,
		kindLogs:            s.containerLogs,
		kindExec:            s.exec,
		kindAttach:          s.attach,
		kindPortForward:     s.portForward,
		kindRun:             s.run,
		kindSummary:         s.summary,
		kindMetrics:         s.served(s.deps.Metrics.Process),
		kindMetricsProbes:   s.served(s.deps.Metrics.Probes),
		kindMetricsResource: s.served(s.resourceMetrics()),
		kindMetricsCadvisor: s.served(s.cadvisorMetrics()),
		kindConfigz:         s.served(zpages.Configz("kubeletconfig", s.cfg.Configz)),
		kindStatusz:         s.served(s.statusz()),
		kindFlagz:           s.served(zpages.Flagz(component, s.cfg.Flags)),
		kindSystemLogs:      s.systemLogs,
		kindProfile:         s.profile,
		kindVerbosity:       s.verbosity,
	}
}

// Run listens and serves until ctx ends. A port that is taken is an error at once.
func (s *Server) Run(ctx context.Context) error {
	api, err := listen(ctx, s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listen for the kubelet API: %w", err)
	}
	defer api.Close()
	s.logs = crilog.NewReader()
	defer s.logs.Close()
	g, ctx := errgroup.WithContext(ctx)
	if s.cfg.HealthAddress != "" {
		health, err := listen(ctx, s.cfg.HealthAddress)
		if err != nil {
			return fmt.Errorf("listen for health checks: %w", err)
		}
		g.Go(func() error { return s.serve(ctx, s.healthServer(), health) })
	}
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug),
		// Streams are upgrades of HTTP/1.1; one connection carries one request, which bounds both.
		Protocols: http1(),
		// "OPTIONS *" is a request like any other.
		DisableGeneralOptionsHandler: true,
	}
	bounded := bound(api, s.cfg.MaxConnections)
	g.Go(func() error {
		err := s.serve(ctx, server, tls.NewListener(bounded, s.certs.config()))
		bounded.closeAll() // streams, which the server has handed over
		s.streams.wait()
		return err
	})
	return g.Wait()
}

func http1() *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	return p
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return lc.Listen(ctx, "tcp", address)
}

// serve serves until ctx ends; then requests have a moment to finish, and streams are cut.
func (s *Server) serve(ctx context.Context, server *http.Server, l net.Listener) error {
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // nothing is left to be done about an error here
		}
	}()
	err := server.Serve(l)
	if !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	<-stopped
	return nil
}

// ServeHTTP answers one request: parse, authenticate, authorize, handle.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	req, status := parse(r)
	defer func() {
		if s.deps.Metrics.Request != nil {
			s.deps.Metrics.Request(methodLabel(r.Method), req.kind.String(), req.kind.stream(), time.Since(start))
		}
	}()
	if status != http.StatusOK && status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
		http.Error(w, http.StatusText(status), status)
		return
	}
	who, err := s.authenticate(r)
	if err != nil {
		s.deps.Log.Debug("kubelet API: authenticate", "from", r.RemoteAddr, "path", r.URL.Path, "err", err)
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	// Asked even for what does not exist, so that nobody learns from the answer what does.
	if ok, reason, err := s.authorize(r.Context(), who, req); err != nil {
		s.deps.Log.Error("kubelet API: authorize", "user", who.name, "request", req, "err", err)
		http.Error(w, fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", who.name, req.verb, req.subresources), http.StatusInternalServerError)
		return
	} else if !ok {
		s.deps.Log.Info("kubelet API: forbidden", "user", who.name, "request", req, "reason", reason)
		http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", who.name, req.verb, req.subresources), http.StatusForbidden)
		return
	}
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	r.Header.Del("Authorization")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if !req.kind.stream() && req.kind != kindProfile {
		ctl, end := http.NewResponseController(w), time.Now().Add(s.cfg.RequestTimeout)
		// Neither can fail on a connection of net/http; a recorder in a test has none.
		_, _ = ctl.SetReadDeadline(end), ctl.SetWriteDeadline(end)
		ctx, cancel := context.WithDeadline(r.Context(), end)
		defer cancel()
		r = r.WithContext(ctx)
	}
	s.routes[req.kind](w, r, req)
}

// pod finds a pod in the snapshot by name, and by UID when one is given. Of two of one name the one
// that is not going away counts.
func pod(snap *store.Snapshot, req request) *corev1.Pod {
	var found *corev1.Pod
	for _, p := range snap.Pods.All() {
		if p.Namespace != req.namespace || p.Name != req.pod || req.uid != "" && string(p.UID) != req.uid {
			continue
		}
		if found == nil || found.DeletionTimestamp != nil {
			found = p
		}
	}
	return found
}
