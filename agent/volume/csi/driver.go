package csi

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// driver is a CSI driver that has registered. It is closed when it has been
// replaced and nobody uses it any more.
type driver struct {
	name, endpoint string
	conn           *grpc.ClientConn
	node           csipb.NodeClient
	capabilities   []csipb.NodeServiceCapability_RPC_Type
	called         func(driver, method, code string, took time.Duration)
	users          sync.WaitGroup
	// asked is when the driver was last asked about this node, in ns since 1970.
	asked atomic.Int64
}

// dial connects to a driver and asks what it can do.
func (v *Volumes) dial(ctx context.Context, name, endpoint string) (*driver, error) {
	conn, err := grpc.NewClient("unix:"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect to CSI driver %s: %w", name, err)
	}
	d := &driver{name: name, endpoint: endpoint, conn: conn, node: csipb.NewNodeClient(conn), called: v.deps.Called}
	got, err := call(ctx, d, "NodeGetCapabilities", d.node.NodeGetCapabilities, &csipb.NodeGetCapabilitiesRequest{})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask CSI driver %s for its capabilities: %w", name, err)
	}
	for _, c := range got.GetCapabilities() {
		d.capabilities = append(d.capabilities, c.GetRpc().GetType())
	}
	return d, nil
}

func (d *driver) can(c csipb.NodeServiceCapability_RPC_Type) bool {
	return slices.Contains(d.capabilities, c)
}

func (d *driver) release() { d.users.Done() }

// call makes one call within the time limit and counts it.
func call[Req, Resp any](ctx context.Context, d *driver, method string, fn func(context.Context, Req, ...grpc.CallOption) (Resp, error), req Req) (Resp, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	start := time.Now()
	resp, err := fn(ctx, req)
	d.called(d.name, "/csi.v1.Node/"+method, status.Code(err).String(), time.Since(start))
	return resp, err
}

// drivers are those that have registered, by name.
type drivers struct {
	mu  sync.Mutex
	all map[string]*driver
}

// get gives a driver for use until release.
func (s *drivers) get(name string) (*driver, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.all[name]
	if d == nil {
		return nil, fmt.Errorf("driver name %s %w", name, ErrNoDriver)
	}
	d.users.Add(1)
	return d, nil
}

// set puts a driver in the place of an older one; nil removes it.
func (s *drivers) set(name string, d *driver) {
	s.mu.Lock()
	old := s.all[name]
	if s.all == nil {
		s.all = map[string]*driver{}
	}
	s.all[name] = d
	if d == nil {
		delete(s.all, name)
	}
	s.mu.Unlock()
	if old != nil {
		go func() {
			old.users.Wait()
			old.conn.Close()
		}()
	}
}

// Close ends the connections to all drivers; calls under way fail.
func (v *Volumes) Close() {
	v.drivers.mu.Lock()
	defer v.drivers.mu.Unlock()
	for _, d := range v.drivers.all {
		d.conn.Close()
	}
	v.drivers.all = nil
}
