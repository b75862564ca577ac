// Registrar stands in for upstream's csi-node-driver-registrar: it asks a CSI
// driver for its name, and tells the node of it by a socket in the node's
// directory of plugins. It ends with an error when the node refuses the driver,
// so that it is started again.
//
// Touches: the socket --csi-address, and NAME-reg.sock in /registration.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	csipb "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// registrations is where the node's directory of plugins is mounted.
const registrations = "/registration"

func main() {
	address := flag.String("csi-address", "/csi/csi.sock", "socket of the driver, as seen here")
	endpoint := flag.String("kubelet-registration-path", "", "socket of the driver, as the node sees it")
	timeout := flag.Duration("timeout", time.Minute, "limit of the question for the driver's name")
	flag.String("v", "", "not used")
	flag.Parse()
	if err := run(*address, *endpoint, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "registrar:", err)
		os.Exit(1)
	}
}

func run(address, endpoint string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to driver at %s: %w", address, err)
	}
	defer conn.Close()
	info, err := csipb.NewIdentityClient(conn).GetPluginInfo(ctx, &csipb.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("ask driver at %s for its name: %w", address, err)
	}
	path := filepath.Join(registrations, info.GetName()+"-reg.sock")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove socket of an earlier process: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen for the node: %w", err)
	}
	r := &registration{name: info.GetName(), endpoint: endpoint, refused: make(chan error, 1)}
	server := grpc.NewServer()
	registerapi.RegisterRegistrationServer(server, r)
	go func() { r.refuse(server.Serve(listener)) }()
	return <-r.refused
}

// registration answers the node.
type registration struct {
	registerapi.UnimplementedRegistrationServer
	name, endpoint string
	refused        chan error
}

// GetInfo says what is registered.
func (r *registration) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{Type: registerapi.CSIPlugin, Name: r.name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

// NotifyRegistrationStatus is the node's verdict.
func (r *registration) NotifyRegistrationStatus(_ context.Context, s *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if !s.GetPluginRegistered() {
		r.refuse(fmt.Errorf("register driver %s: %s", r.name, s.GetError()))
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

func (r *registration) refuse(err error) {
	select {
	case r.refused <- err:
	default: // there is a reason already
	}
}
