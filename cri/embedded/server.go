package embedded

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
)

// namespace is where CRI keeps its containers and images: `ctr -n k8s.io`.
const namespace = cri.ContainerdNamespace

// Server is the running containerd.
type Server struct {
	config  Config
	deps    Deps
	lock    *os.File
	plugins *plugged
	records *records
	cancel  context.CancelFunc
	failed  chan error
	sockets sockets
	client  *containerd.Client
	runtime *cri.Client
	images  *importer
	keeping sync.WaitGroup
	stop    sync.Once
}

// Start starts containerd, takes up the containers of its predecessor, and makes sure that the pause
// image is there. ctx bounds the start only. A process can start it once.
func Start(ctx context.Context, config Config, deps Deps) (*Server, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	begun := time.Now()
	f, err := findPrograms(config)
	if err != nil {
		return nil, err
	}
	if err := makeDirs(config); err != nil {
		return nil, err
	}
	lock, err := lockRoot(config.Root)
	if err != nil {
		return nil, err
	}
	s := &Server{config: config, deps: deps, lock: lock, failed: make(chan error, 1)}
	if err := s.start(ctx, &f); err != nil {
		s.Stop()
		return nil, err
	}
	deps.Log.Info("containerd is up", "took", time.Since(begun), "snapshotter", f.snapshotter,
		"socket", config.Socket(), "runc", f.runc)
	if f.restrictOOM {
		deps.Log.Warn("no capability SYS_RESOURCE: pods are not protected from the OOM killer as their class asks for")
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, f *found) error {
	if err := prepare(s.config, f); err != nil {
		return err
	}
	var run context.Context
	run, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	routeLogs(s.deps.Log, s.failed)
	var err error
	if s.records, err = s.config.records(f.snapshotter, s.deps.Log); err != nil {
		return err
	}
	if err := s.records.place(ctx); err != nil {
		return err
	}
	if s.plugins, err = load(run, s.config.render(*f), s.config.Socket()); err != nil {
		return err
	}
	if err := s.plugins.wait(ctx, s.failed); err != nil {
		return err
	}
	if s.runtime, err = s.connect(); err != nil {
		return err
	}
	s.client, err = containerd.New("",
		containerd.WithDefaultNamespace(namespace),
		containerd.WithDefaultPlatform(platforms.Default()),
		containerd.WithInMemoryServices(plugin.NewContext(run, s.plugins.set, nil)))
	if err != nil {
		return fmt.Errorf("connect to the embedded containerd: %w", err)
	}
	s.images = &importer{client: s.client, runtime: s.runtime, snapshotter: f.snapshotter}
	if err := s.images.ensure(ctx, PauseImage, pauseArchive); err != nil {
		return err
	}
	images, _ := s.client.EventService().Subscribe(run, `topic~="/images/"`)
	s.keeping.Go(func() { s.records.keep(run, images) })
	// Last, so that whoever finds the sockets finds all ready. Shims try again for seconds.
	s.sockets, err = serve(s.plugins, s.config.Socket(), s.failed)
	return err
}

// connect makes the client that calls the CRI plugin's methods.
func (s *Server) connect() (*cri.Client, error) {
	instance, err := s.plugins.get(plugins.GRPCPlugin, "cri")
	if err != nil {
		return nil, fmt.Errorf("find containerd's CRI plugin: %w", err)
	}
	service, ok := instance.(interface {
		runtimev1.RuntimeServiceServer
		runtimev1.ImageServiceServer
	})
	if !ok {
		return nil, fmt.Errorf("containerd's CRI plugin is a %T and serves no CRI", instance)
	}
	return cri.InProcess(cri.Server{
		Endpoint: "unix://" + s.config.Socket(),
		Runtime:  service,
		Image:    service,
		Context:  func(ctx context.Context) context.Context { return namespaces.WithNamespace(ctx, namespace) },
		Status:   errgrpc.ToGRPC,
	}, s.deps.client()), nil
}

// Runtime is the way to the containers.
func (s *Server) Runtime() *cri.Client { return s.runtime }

// Run waits until ctx ends, then stops containerd; or until containerd fails, which is the error.
func (s *Server) Run(ctx context.Context) error {
	defer s.Stop()
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// Stop stops containerd. Containers go on running. It may be called more than once.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.sockets.close()
		if s.plugins != nil {
			s.plugins.close()
		}
		if s.cancel != nil {
			s.cancel()
		}
		s.keeping.Wait()
		if s.records != nil {
			s.records.saveOrSay()
		}
		_ = s.lock.Close() // releases the lock
	})
}

// ImportImages adds the images of an OCI or docker archive, plain or gzipped, and returns their names.
func (s *Server) ImportImages(ctx context.Context, archive io.Reader) ([]string, error) {
	return s.images.add(ctx, archive)
}
