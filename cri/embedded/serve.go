package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc"
)

// sockets are containerd's two: gRPC for crictl and ctr, ttrpc for what shims report.
type sockets struct {
	grpc  *grpc.Server
	ttrpc *ttrpc.Server
}

// ttrpcSuffix is how containerd names the second socket after the first.
const ttrpcSuffix = ".ttrpc"

// serve opens both for the services that the plugins offer.
func serve(p *plugged, path string, failed chan<- error) (sockets, error) {
	var s sockets
	var err error
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(defaults.DefaultMaxRecvMsgSize), grpc.MaxSendMsgSize(defaults.DefaultMaxSendMsgSize),
		grpc.UnaryInterceptor(keepNamespace), grpc.StreamInterceptor(keepStreamNamespace))
	if s.ttrpc, err = ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser())); err != nil {
		return s, fmt.Errorf("make the shims' server: %w", err)
	}
	for _, pl := range p.order {
		instance, err := pl.Instance()
		if err != nil {
			continue
		}
		if service, ok := instance.(interface{ Register(*grpc.Server) error }); ok {
			err = service.Register(s.grpc)
		}
		if service, ok := instance.(interface{ RegisterTTRPC(*ttrpc.Server) error }); ok {
			err = errors.Join(err, service.RegisterTTRPC(s.ttrpc))
		}
		if err != nil {
			return s, fmt.Errorf("register containerd's service %s: %w", pl.Registration.URI(), err)
		}
	}
	grpcListener, err := listen(path)
	if err != nil {
		return s, err
	}
	ttrpcListener, err := listen(path + ttrpcSuffix)
	if err != nil {
		_ = grpcListener.Close()
		return s, err
	}
	go func() {
		if err := s.grpc.Serve(grpcListener); err != nil {
			report(failed, fmt.Errorf("serve containerd's socket: %w", err))
		}
	}()
	go func() {
		if err := s.ttrpc.Serve(context.Background(), ttrpcListener); err != nil && !errors.Is(err, ttrpc.ErrServerClosed) {
			report(failed, fmt.Errorf("serve containerd's socket for shims: %w", err))
		}
	}()
	return s, nil
}

// listen replaces what a killed predecessor left at path. The directory lets others pass (0711), so
// the socket is made for root alone before it accepts anybody.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace containerd's socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open containerd's socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("restrict containerd's socket: %w", err)
	}
	return listener, nil
}

func (s sockets) close() {
	if s.grpc != nil {
		s.grpc.Stop()
	}
	if s.ttrpc != nil {
		_ = s.ttrpc.Close()
	}
}

// keepNamespace carries the caller's containerd namespace on to what containerd calls itself.
func keepNamespace(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(outgoing(ctx), req)
}

func keepStreamNamespace(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(server, &streamWithContext{stream, outgoing(stream.Context())})
}

func outgoing(ctx context.Context) context.Context {
	if ns, ok := namespaces.Namespace(ctx); ok {
		return namespaces.WithNamespace(ctx, ns)
	}
	return ctx
}

type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context
}

// Context is the stream's with the namespace in it.
func (s *streamWithContext) Context() context.Context { return s.ctx }
