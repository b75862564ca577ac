package apiserver

import (
	"context"
	"fmt"
	"net"
	"time"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	netutils "k8s.io/utils/net"

	"nodelet/controlplane/upstream"
)

// drainTimeout is how long clients that hold a connection open at the end are
// waited for. Upstream waits a minute for watches that never end by themselves.
const drainTimeout = time.Second

// ReadyPath asks whether the API server is ready but for two steps that upstream
// delays by a second after everything else: addons.CreatePolicy has done both.
const ReadyPath = "/readyz?" + WithoutLateHooks

// WithoutLateHooks is the query of ReadyPath, good for /healthz as well.
const WithoutLateHooks = "exclude=poststarthook/rbac/bootstrap-roles" +
	"&exclude=poststarthook/scheduling/bootstrap-system-priority-classes"

// Server is a configured API server.
type Server struct {
	config   *app.Config
	loopback *rest.Config
}

// New reads the options and builds the configuration, the costly half of the
// start that needs no database.
func New(ctx context.Context, cfg Config, l net.Listener) (*Server, error) {
	s := options.NewServerRunOptions()
	s.SecureServing.Listener = l
	if err := upstream.Parse("apiserver", s.Flags(), cfg.Args()); err != nil {
		return nil, err
	}
	if err := s.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return nil, fmt.Errorf("set feature gates: %w", err)
	}
	s.SecureServing.ExternalAddress = netutils.ParseIPSloppy(cfg.AdvertiseAddress.String())
	completed, err := s.Complete(ctx)
	if err != nil {
		return nil, fmt.Errorf("complete apiserver options: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("check apiserver options: %w", utilerrors.NewAggregate(errs))
	}
	config, err := app.NewConfig(completed)
	if err != nil {
		return nil, fmt.Errorf("configure apiserver: %w", err)
	}
	return &Server{config: config, loopback: config.KubeAPIs.ControlPlane.Generic.LoopbackClientConfig}, nil
}

// Loopback is for clients inside this process that prepare the cluster: they
// may do everything.
func (s *Server) Loopback() *rest.Config { return rest.CopyConfig(s.loopback) }

// Run serves until ctx ends. The database must be up, and must stay up until
// Run has returned: without it Run would never return.
func (s *Server) Run(ctx context.Context) error {
	completed, err := s.config.Complete()
	if err != nil {
		return fmt.Errorf("complete apiserver configuration: %w", err)
	}
	chain, err := app.CreateServerChain(completed)
	if err != nil {
		return fmt.Errorf("build apiserver: %w", err)
	}
	chain.GenericAPIServer.ShutdownTimeout = drainTimeout
	prepared, err := chain.PrepareRun()
	if err != nil {
		return fmt.Errorf("prepare apiserver: %w", err)
	}
	return prepared.Run(ctx)
}
