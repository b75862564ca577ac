package allinone

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"nodelet/internal/model"
	"nodelet/internal/store"
	"nodelet/internal/supervise"
	"nodelet/node"
)

// Config is what `nodelet up` is told.
type Config struct {
	Node node.Config
	// ControlPlane is the program of the bundled control plane.
	ControlPlane  string
	APIPort       uint16
	EtcdEndpoints []string
	// ExtraArgs are handed to the control plane as they are.
	ExtraArgs []string
}

// Run runs the control plane and the node until ctx ends or one of them
// cannot go on.
func Run(ctx context.Context, cfg Config, progress *Progress, log *slog.Logger) error {
	keys, ready := make(chan struct{}), make(chan struct{})
	child := controlPlane(cfg, log)
	child.Line = func(line string) {
		switch line {
		case "keys":
			progress.Done("keys and certificates in %s", cfg.Node.Layout.Data)
			closeOnce(keys)
		case "ready":
			progress.Done("API server on 127.0.0.1:%d and %s", cfg.APIPort, cfg.Node.NodeIPs[0])
			closeOnce(ready)
		}
	}
	child.Adopted = func(pid int) {
		progress.Done("control plane already running (pid %d)", pid)
		closeOnce(keys)
		closeOnce(ready)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := child.Run(ctx); err != nil {
			return fmt.Errorf("run the control plane: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-keys:
		}
		n, err := node.New(cfg.Node, node.Deps{Log: log, Step: progress.Done})
		if err != nil {
			return err
		}
		g.Go(func() error { return watchReady(ctx, cfg, n.Store(), ready, progress) })
		return n.Run(ctx)
	})
	return g.Wait()
}

func controlPlane(cfg Config, log *slog.Logger) *supervise.Child {
	n := cfg.Node
	args := []string{
		"serve", "--data-dir", n.Layout.Data, "--node-name", n.NodeName,
		"--advertise-address", n.NodeIPs[0].String(),
		"--secure-port", strconv.Itoa(int(cfg.APIPort)),
		"--kubelet-port", strconv.Itoa(int(n.KubeletPort)),
		"--service-cidr", n.ServiceCIDRs[0].String(), "--cluster-cidr", n.ClusterCIDRs[0].String(),
		"--cluster-domain", n.ClusterDomain, "--dns-service-ip", n.ClusterDNS[0].String(),
		"--pid-file", n.Layout.ControlPlanePIDFile(),
	}
	for _, e := range cfg.EtcdEndpoints {
		args = append(args, "--etcd-endpoints", e)
	}
	return &supervise.Child{
		Path: cfg.ControlPlane, Args: append(args, cfg.ExtraArgs...),
		Words:   ControlPlaneWords(n.Layout),
		PIDFile: n.Layout.ControlPlanePIDFile(), LogFile: n.Layout.ControlPlaneLog(), Log: log,
	}
}

// ControlPlaneWords identify a running control plane of that layout by its command line.
func ControlPlaneWords(l node.Layout) []string {
	return []string{"nodelet-controlplane", "serve", l.Data}
}

// watchReady reports the last steps: the node is Ready, the cluster DNS answers.
func watchReady(ctx context.Context, cfg Config, s *store.Store, apiReady <-chan struct{}, progress *Progress) error {
	self := model.Key{Name: cfg.Node.NodeName}
	isReady := func(n *store.Snapshot) bool {
		node, ok := n.Nodes.Get(self)
		return ok && node.Ready
	}
	for snap := s.Snapshot(); !isReady(snap); snap = s.Snapshot() {
		select {
		case <-ctx.Done():
			return nil
		case <-snap.Changed():
		}
	}
	progress.Done("node %s is Ready", cfg.Node.NodeName)
	select {
	case <-ctx.Done():
		return nil
	case <-apiReady:
	}
	if !cfg.Node.Has(node.DNS) {
		progress.Complete("cluster is up")
		return nil
	}
	if waitDNS(ctx, cfg.Node.ClusterDNS[0], "kubernetes.default.svc."+cfg.Node.ClusterDomain+".") {
		progress.Complete("cluster DNS answers on %s", cfg.Node.ClusterDNS[0])
	}
	return nil
}

// waitDNS asks until there is an answer; false when ctx ended first.
func waitDNS(ctx context.Context, server netip.Addr, name string) bool {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
	}}
	for {
		call, cancel := context.WithTimeout(ctx, time.Second)
		_, err := r.LookupHost(call, name)
		cancel()
		if err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// closeOnce closes a channel that may be closed already; only one goroutine calls it per channel.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}
