package csitest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Config has the values of a driver.
type Config struct {
	// Name of the driver, and the directory that holds its socket and volumes.
	Name, Dir string
	NodeID    string
	// Topology labels the node.
	Topology map[string]string
	// MaxVolumes on a node; 0 for no limit.
	MaxVolumes int64
	// NoStage: the driver publishes without staging.
	NoStage bool
	// MountGroup: the driver applies the pod's group itself.
	MountGroup bool
	// FaultRate is the part of calls that fail, before or after they took effect; 0 means a tenth, less than 0 none.
	FaultRate float64
	// Seed of the faults.
	Seed uint64
}

// Driver is a CSI driver.
type Driver struct {
	csipb.UnimplementedIdentityServer
	csipb.UnimplementedNodeServer
	registerapi.UnimplementedRegistrationServer

	cfg      Config
	server   *grpc.Server
	register *grpc.Server

	mu        sync.Mutex
	rand      *rand.Rand
	staged    map[string]string            // volume -> path
	published map[string]map[string]string // volume -> path -> pod's attributes
	requests  map[string]*csipb.NodePublishVolumeRequest
	expanded  map[string]int64
	calls     []string
	breaches  []string
	hang      map[string]chan struct{} // volume, or method and volume -> calls wait until closed
	refuse    map[string]codes.Code    // method and volume -> what is answered
	status    chan *registerapi.RegistrationStatus
}

// Start serves the driver at <dir>/csi.sock.
func Start(cfg Config) (*Driver, error) {
	if cfg.FaultRate == 0 {
		cfg.FaultRate = 0.1
	}
	d := &Driver{
		cfg: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, 1)),
		staged: map[string]string{}, published: map[string]map[string]string{}, requests: map[string]*csipb.NodePublishVolumeRequest{},
		expanded: map[string]int64{}, hang: map[string]chan struct{}{}, refuse: map[string]codes.Code{}, status: make(chan *registerapi.RegistrationStatus, 16),
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "volumes"), 0o755); err != nil {
		return nil, err
	}
	l, err := listen(d.Endpoint())
	if err != nil {
		return nil, err
	}
	d.server = grpc.NewServer(grpc.UnaryInterceptor(d.intercept))
	csipb.RegisterIdentityServer(d.server, d)
	csipb.RegisterNodeServer(d.server, d)
	go func() { _ = d.server.Serve(l) }()
	return d, nil
}

func listen(path string) (net.Listener, error) {
	_ = os.Remove(path)
	return net.Listen("unix", path)
}

// Register puts a registration socket into the registry directory.
func (d *Driver) Register(registry string) error {
	l, err := listen(filepath.Join(registry, d.cfg.Name+"-reg.sock"))
	if err != nil {
		return err
	}
	d.register = grpc.NewServer()
	registerapi.RegisterRegistrationServer(d.register, d)
	go func() { _ = d.register.Serve(l) }()
	return nil
}

// Stop ends the driver. Mounts stay, as when a driver's pod ends.
func (d *Driver) Stop() {
	d.mu.Lock()
	for _, c := range d.hang {
		close(c)
	}
	d.hang = map[string]chan struct{}{}
	d.mu.Unlock()
	if d.register != nil {
		d.register.Stop()
	}
	d.server.Stop()
}

// Endpoint is the driver's socket.
func (d *Driver) Endpoint() string { return filepath.Join(d.cfg.Dir, "csi.sock") }

// Content is where the files of a volume are kept.
func (d *Driver) Content(volume string) string { return filepath.Join(d.cfg.Dir, "volumes", volume) }

// Hang makes all calls for a volume wait until Go.
func (d *Driver) Hang(volume string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hang[volume] = make(chan struct{})
}

// HangCall makes the calls of one method for a volume wait until GoCall.
func (d *Driver) HangCall(method, volume string) { d.Hang(method + " " + volume) }

// GoCall ends HangCall.
func (d *Driver) GoCall(method, volume string) { d.Go(method + " " + volume) }

// Refuse has calls of a method for a volume fail without any effect; codes.OK ends that.
func (d *Driver) Refuse(method, volume string, code codes.Code) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse[method+" "+volume] = code
}

// Go ends Hang.
func (d *Driver) Go(volume string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.hang[volume]; c != nil {
		close(c)
		delete(d.hang, volume)
	}
}

// SetMaxVolumes changes how many volumes the driver takes; 0 for no limit.
func (d *Driver) SetMaxVolumes(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cfg.MaxVolumes = n
}

// Breaches are the caller's breaches of the specification.
func (d *Driver) Breaches() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.breaches...)
}

// Calls are the calls that reached the driver, with their volumes.
func (d *Driver) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.calls...)
}

// InUse counts what is staged and published.
func (d *Driver) InUse() (staged, published int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.published {
		published += len(p)
	}
	return len(d.staged), published
}

// Published is the last request to publish a volume; nil for none.
func (d *Driver) Published(volume string) *csipb.NodePublishVolumeRequest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.requests[volume]
}

// Expanded is the size a volume was last expanded to.
func (d *Driver) Expanded(volume string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expanded[volume]
}

// Statuses tells of each registration that the node has reported.
func (d *Driver) Statuses() <-chan *registerapi.RegistrationStatus { return d.status }

type withVolume interface{ GetVolumeId() string }

// intercept adds faults, delays and hangs to the calls that concern a volume.
func (d *Driver) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	v, ok := req.(withVolume)
	if !ok {
		return next(ctx, req)
	}
	d.mu.Lock()
	method := filepath.Base(info.FullMethod) + " " + v.GetVolumeId()
	d.calls = append(d.calls, method)
	refused := d.refuse[method]
	hang := cmp.Or(d.hang[v.GetVolumeId()], d.hang[method])
	fault, late := d.rand.Float64() < d.cfg.FaultRate, d.rand.IntN(2) == 0
	delay := time.Duration(d.rand.IntN(3)) * time.Millisecond
	d.mu.Unlock()
	if refused != codes.OK {
		return nil, status.Error(refused, "refused")
	}
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if d.cfg.FaultRate > 0 {
		time.Sleep(delay)
	}
	if fault && !late {
		return nil, status.Error(codes.Unavailable, "injected: nothing was done")
	}
	resp, err := next(ctx, req)
	if fault && err == nil {
		return nil, status.Error(codes.DeadlineExceeded, "injected: it was done all the same")
	}
	return resp, err
}

// breach notes what the caller does wrong; d.mu is held.
func (d *Driver) breach(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	d.breaches = append(d.breaches, text)
	return status.Error(codes.FailedPrecondition, text)
}

// bind mounts from on to, unless that is done.
func bind(from, to string, readOnly bool) error {
	var a, b unix.Stat_t
	if unix.Stat(from, &a) == nil && unix.Stat(to, &b) == nil && a.Ino == b.Ino && a.Dev == b.Dev {
		return nil
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return status.Errorf(codes.Internal, "bind %s to %s: %v", from, to, err)
	}
	if readOnly {
		if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return status.Errorf(codes.Internal, "remount %s read-only: %v", to, err)
		}
	}
	return nil
}

// unbind takes away what is mounted on a path, and the path.
func unbind(path string, remove bool) error {
	if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return status.Errorf(codes.Internal, "unmount %s: %v", path, err)
	}
	if remove {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return status.Errorf(codes.Internal, "remove %s: %v", path, err)
		}
	}
	return nil
}
