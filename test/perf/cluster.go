package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dnsAddress = "10.96.0.10:53"
	apiService = "10.96.0.1"
	nodeName   = "bench"
	// startLimit is far more than a start takes; after it something is wrong.
	startLimit = 2 * time.Minute
	// look is how often is looked for what nobody tells: the resolution of start times.
	look = 2 * time.Millisecond
)

// cluster is one nodelet with directories and a cgroup of its own.
type cluster struct {
	bin, dir, cgroup string
}

func newCluster(bin string) (*cluster, error) {
	// A short name: paths of unix sockets are limited to 108 bytes.
	dir, err := os.MkdirTemp("", "nb")
	if err != nil {
		return nil, err
	}
	c := &cluster{bin: bin, dir: dir, cgroup: "/nodelet-bench-" + filepath.Base(dir)}
	if err := os.Mkdir(c.run(), 0o755); err != nil {
		return nil, err
	}
	// In memory, as /run is on every systemd machine: the runtime makes many small files there.
	if err := unix.Mount("tmpfs", c.run(), "tmpfs", 0, ""); err != nil {
		return nil, fmt.Errorf("mount tmpfs on %s: %w", c.run(), err)
	}
	return c, nil
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }
func (c *cluster) run() string  { return filepath.Join(c.dir, "run") }

// nodelet runs a command of the program to its end.
func (c *cluster) nodelet(ctx context.Context, args ...string) error {
	args = append(args, "--data-dir", c.data(), "--run-dir", c.run())
	out, err := exec.CommandContext(ctx, filepath.Join(c.bin, "nodelet"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("nodelet %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// remove stops everything and proves that nothing is left.
func (c *cluster) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	err := c.nodelet(ctx, "reset", "--yes")
	if err == nil {
		err = c.nodelet(ctx, "reset", "--verify")
	}
	if err != nil {
		return fmt.Errorf("%w (logs: %s)", err, filepath.Join(c.data(), "log"))
	}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + c.cgroup) // the pattern is a constant but for a name of ours
	for _, d := range append(dirs, "/sys/fs/cgroup"+c.cgroup) {
		if rmErr := os.Remove(d); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}
	return errors.Join(err, unix.Unmount(c.run(), unix.MNT_DETACH), os.RemoveAll(c.dir))
}

// startTimes are times from the start of `nodelet up`.
type startTimes struct {
	ready, dns time.Duration
}

// start starts the cluster and takes the times.
func (c *cluster) start(ctx context.Context) (startTimes, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	begin := time.Now()
	up := make(chan error, 1)
	go func() {
		up <- c.nodelet(ctx, "up", "--hostname-override", nodeName, "--cgroup-root", c.cgroup, "--eviction-hard=")
	}()
	answered, ready := make(chan time.Duration, 1), make(chan time.Duration, 1)
	go await(ctx, begin, answered, askDNS)
	go await(ctx, begin, ready, func(ctx context.Context) bool { return c.nodeReady(ctx, begin) })
	var t startTimes
	err := <-up
	if err != nil {
		return t, err
	}
	for range 2 {
		select {
		case t.dns = <-answered:
		case t.ready = <-ready:
		case <-ctx.Done():
			return t, fmt.Errorf("nodelet up returned, and then: DNS answer after %v, node Ready after %v: %w", t.dns, t.ready, ctx.Err())
		}
	}
	return t, nil
}

// await asks until the answer is yes, and tells how long after begin that was.
func await(ctx context.Context, begin time.Time, tell chan<- time.Duration, ask func(context.Context) bool) {
	for ctx.Err() == nil {
		if ask(ctx) {
			tell <- time.Since(begin)
			return
		}
		time.Sleep(look)
	}
}

// askDNS asks the cluster DNS for the API server's Service.
func askDNS(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, dnsAddress)
	}}
	ips, err := r.LookupNetIP(ctx, "ip4", "kubernetes.default.svc.cluster.local.")
	return err == nil && len(ips) == 1 && ips[0].Unmap().String() == apiService
}

// nodeReady asks the API server, if there is one already, about a node that has come up after a time.
func (c *cluster) nodeReady(ctx context.Context, after time.Time) bool {
	api, err := c.api()
	if err != nil {
		return false
	}
	defer api.client.CloseIdleConnections()
	// Once there is a Node the watch tells without delay; before, the Lease cannot be there.
	return api.watchNode(ctx, nodeName) == nil && api.renewed(ctx, nodeName, after)
}

// pid reads a pid file of the run directory.
func (c *cluster) pid(name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(c.run(), name+".pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
