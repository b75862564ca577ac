package etcd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"

	"nodelet/controlplane/durable"
)

// Config says where the database is.
type Config struct {
	Dir    string // its files; made with mode 0700
	Socket string // unix socket; its folder must be private, there is no other lock on it
	Log    *slog.Logger
}

// Server is a running member.
type Server struct {
	dir    string
	etcd   *embed.Etcd
	opened chan error // one answer of open
	failed chan error // the first error after it
}

const (
	// The only member needs no time to hear from others, but it waits for 1 to 5
	// ticks at random before it elects itself: 20 ms ticks make that 60 ms on
	// average instead of upstream's 550, for 50 wake-ups a second.
	tickMs     = 20
	electionMs = 5 * tickMs

	// Log entries are kept in memory until the next snapshot plus a number for
	// slow followers. There are none.
	snapshotCount    = 2500
	snapshotCatchUp  = 100
	warnSlowRequests = 500 * time.Millisecond

	// The API server opens one connection per resource, about a hundred. gRPC's
	// 32 KiB buffers for each would be held for nothing.
	connectionBuffer = 4 << 10
)

// Start begins to open the database and returns as soon as clients may connect:
// they wait in the socket's queue until it serves. (One that is refused tries
// again only a second later.) Nobody may rely on it before Wait.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := durable.Dir(cfg.Dir, durable.Private); err != nil {
		return nil, err
	}
	for _, old := range []string{cfg.Socket, httpSocket(cfg.Socket)} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("remove old socket: %w", err)
		}
	}
	s := &Server{dir: cfg.Dir, failed: make(chan error, 1), opened: make(chan error, 1)}
	conf, err := config(cfg, s.fail)
	if err != nil {
		return nil, err
	}
	go func() { s.opened <- s.open(conf) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Lstat(cfg.Socket); err == nil {
			return s, nil
		}
		select {
		case err := <-s.opened: // for Wait, if it was quicker than our look
			if err != nil {
				return nil, explain(err, cfg.Dir)
			}
			s.opened <- nil
			return s, nil
		case err := <-s.failed:
			return nil, err
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Wait returns when the database serves.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case err := <-s.opened:
		if err != nil {
			return explain(err, s.dir)
		}
	case err := <-s.failed: // open's goroutine is gone: see fatal in log.go
		return err
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
	case err := <-s.etcd.Err():
		return explain(err, s.dir)
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	go s.forward()
	return nil
}

// Endpoint is what the API server's --etcd-servers takes.
func Endpoint(socket string) string { return "unix://" + socket }

// LongestSocket is the longer of the two paths that a Config.Socket stands for:
// the kernel takes 107 bytes.
func LongestSocket(socket string) string { return httpSocket(socket) }

// httpSocket is beside the other and answers /metrics and /health. With HTTP
// apart, gRPC connections need not be told from HTTP ones by their first bytes.
func httpSocket(socket string) string { return socket + ".http" }

// Failed delivers one error when the member dies by itself after Wait.
func (s *Server) Failed() <-chan error { return s.failed }

// Stop ends the member after everything acknowledged is on disk.
func (s *Server) Stop() {
	if s.etcd != nil {
		s.etcd.Close()
	}
}

func (s *Server) forward() {
	if err, ok := <-s.etcd.Err(); ok && err != nil {
		s.fail(err)
	}
}

func (s *Server) fail(err error) {
	select {
	case s.failed <- explain(err, s.dir):
	default: // only the first cause matters
	}
}

// open turns the panics that etcd answers damaged files with into errors.
func (s *Server) open(conf *embed.Config) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("open database: %v", p)
		}
	}()
	s.etcd, err = embed.StartEtcd(conf)
	return err
}

func config(cfg Config, fail func(error)) (*embed.Config, error) {
	grpcURL, err := url.Parse(Endpoint(cfg.Socket))
	if err != nil {
		return nil, fmt.Errorf("parse socket path %q: %w", cfg.Socket, err)
	}
	httpURL := *grpcURL
	httpURL.Path = httpSocket(httpURL.Path)
	c := embed.NewConfig()
	c.Name = "nodelet"
	c.Dir = cfg.Dir
	c.ListenClientUrls = []url.URL{*grpcURL}
	c.ListenClientHttpUrls = []url.URL{httpURL}
	c.ListenPeerUrls = nil // alone: no port for others
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs = tickMs, electionMs
	c.SnapshotCount, c.SnapshotCatchUpEntries = snapshotCount, snapshotCatchUp
	c.WarningApplyDuration = warnSlowRequests
	c.WarningUnaryRequestDuration = warnSlowRequests
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{
		grpc.ReadBufferSize(connectionBuffer),
		grpc.WriteBufferSize(connectionBuffer),
	}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newLogger(cfg.Log, fail))
	return c, nil
}

// explain adds what to do to the errors that an operator can mend.
func explain(err error, dir string) error {
	wal := filepath.Join(dir, "member")
	switch text := err.Error(); {
	case contains(text, "no space left"):
		return fmt.Errorf("run etcd in %s: %w (free some space on that disk)", dir, err)
	case contains(text, "cannot downgrade", "newer", "unsupported storage version"):
		return fmt.Errorf("run etcd in %s: %w (the data was written by a newer version: run that one)", dir, err)
	case contains(text, "permission denied", "read-only file system"):
		return fmt.Errorf("run etcd in %s: %w", dir, err)
	case contains(text, "corrupt", "crc mismatch", "unexpected EOF", "invalid database",
		"checksum", "snapshot", "WAL", "wal:", "page", "panic", "slice bounds", "index out of range"):
		return fmt.Errorf("run etcd in %s: %w (the files are damaged: restore a backup, or move %s away to begin an empty cluster)", dir, err, wal)
	}
	return fmt.Errorf("run etcd in %s: %w", dir, err)
}
