package serve

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"nodelet/controlplane/addons"
	"nodelet/controlplane/apiserver"
	"nodelet/controlplane/approve"
	"nodelet/controlplane/controllers"
	"nodelet/controlplane/durable"
	"nodelet/controlplane/etcd"
	"nodelet/controlplane/scheduler"
)

// start brings everything up, side by side where nothing waits for another.
func (c *controlPlane) start(ctx context.Context) error {
	relaxed := relaxMemory()
	defer relaxed()
	var err error
	if c.listener, err = listen(ctx, c.cfg.bindAddresses(), c.cfg.Port); err != nil {
		return err
	}
	server, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	begin := c.deps.Now()
	c.parts = append(c.parts, launch("apiserver", c.fail, server.Run))
	if err := c.await(ctx, server.Loopback(), "/livez/ping"); err != nil {
		return err
	}
	c.progress("apiserver answers", begin)
	if err := c.populate(ctx, server.Loopback()); err != nil {
		return err
	}
	c.progress("control plane ready", c.begun)
	c.tellReady()
	if err := slacken(timerSlack); err != nil {
		c.deps.Log.Info("timers stay exact: an idle control plane takes twice the processor time", "err", err)
	}
	return nil
}

// prepare starts the database, and meanwhile makes the keys and the API
// server's configuration.
func (c *controlPlane) prepare(ctx context.Context) (*apiserver.Server, error) {
	begin := c.deps.Now()
	if err := c.startDatabase(ctx); err != nil {
		return nil, err
	}
	var g errgroup.Group
	g.Go(func() error {
		if c.database == nil {
			return nil
		}
		if err := c.database.Wait(ctx); err != nil {
			return err
		}
		// From here on: before, an error is Wait's.
		go func() { c.fail(fmt.Errorf("%w: %w", errDatabase, <-c.database.Failed())) }()
		c.progress("etcd ready", begin)
		return nil
	})
	var server *apiserver.Server
	g.Go(func() error {
		begin := c.deps.Now()
		if err := c.makeKeys(); err != nil {
			return err
		}
		c.progress("keys ready", begin)
		c.tell("keys")
		begin = c.deps.Now()
		var err error
		if server, err = c.configureServer(ctx); err != nil {
			return err
		}
		c.progress("apiserver configured", begin)
		return nil
	})
	return server, g.Wait()
}

func (c *controlPlane) startDatabase(ctx context.Context) (err error) {
	if len(c.cfg.EtcdEndpoints) > 0 {
		c.endpoints = c.cfg.EtcdEndpoints
		return nil
	}
	socket, err := c.socket()
	if err != nil {
		return err
	}
	c.database, err = etcd.Start(ctx, etcd.Config{
		Dir: c.cfg.in("etcd"), Socket: socket, Log: c.deps.Log.With("part", "etcd"),
	})
	if err != nil {
		return err
	}
	c.endpoints = []string{etcd.Endpoint(socket)}
	return nil
}

// maxSocketPath is what the kernel takes (sun_path, with its closing zero).
const maxSocketPath = 107

// socket is where the database listens. Both ends are in this process, so a
// path too long for the kernel goes through the open folder. The descriptor
// stays open as long as the process lives.
func (c *controlPlane) socket() (string, error) {
	path := c.cfg.in("etcd.sock")
	if len(etcd.LongestSocket(path)) <= maxSocketPath {
		return path, nil
	}
	dir, err := unix.Open(c.cfg.dir(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open %s: %w", c.cfg.dir(), err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)), nil
}

func (c *controlPlane) configureServer(ctx context.Context) (*apiserver.Server, error) {
	authn := c.cfg.in("authentication.yaml")
	if _, err := durable.WriteIfChanged(authn, apiserver.AuthenticationConfig(), durable.Secret); err != nil {
		return nil, err
	}
	return apiserver.New(ctx, apiserver.Config{
		AdvertiseAddress: c.cfg.AdvertiseAddress,
		ServiceCIDR:      c.cfg.ServiceCIDR.String(),
		ClusterDomain:    c.cfg.ClusterDomain,
		KubeletPort:      c.cfg.KubeletPort,
		Etcd:             c.endpoints,
		Files:            c.keys.Files,
		AuthnConfig:      authn,
		ExtraArgs:        c.cfg.ExtraAPIServerArgs,
	}, c.listener)
}

// populate makes the objects that belong to every cluster, starts what works on
// the API once its rights are in force, and waits until the API is ready.
func (c *controlPlane) populate(ctx context.Context, loopback *rest.Config) error {
	client, err := kubernetes.NewForConfig(loopback)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	begin := c.deps.Now()
	for _, step := range []func(context.Context, kubernetes.Interface) error{
		addons.CreatePolicy, addons.ApplyRights, addons.InForce,
	} {
		if err := c.retry(ctx, func() error { return step(ctx, client) }); err != nil {
			return err
		}
	}
	c.progress("rights in force", begin)
	c.launchWorkers(client)
	begin = c.deps.Now()
	err = c.retry(ctx, func() error { return addons.ApplyDNS(ctx, client, c.cfg.DNSAddress) })
	if err != nil {
		return err
	}
	c.progress("add-ons applied", begin)
	return c.await(ctx, loopback, apiserver.ReadyPath)
}

// launchWorkers starts the parts that work on the API.
func (c *controlPlane) launchWorkers(client kubernetes.Interface) {
	c.parts = append(c.parts,
		launch("approver", c.fail, func(ctx context.Context) error {
			return c.approve(ctx, client)
		}),
		launch("scheduler", c.fail, func(ctx context.Context) error {
			return scheduler.Run(ctx, scheduler.Config{
				Kubeconfig: c.cfg.in("scheduler.kubeconfig"),
				ExtraArgs:  c.cfg.ExtraSchedulerArgs,
			})
		}),
		launch("controllers", c.fail, func(ctx context.Context) error {
			return controllers.Run(ctx, controllers.Config{
				Kubeconfig:    c.cfg.in("controller-manager.kubeconfig"),
				Files:         c.keys.Files,
				ServiceCIDR:   c.cfg.ServiceCIDR.String(),
				ClusterCIDR:   c.cfg.ClusterCIDR.String(),
				FlexVolumeDir: c.cfg.in("flexvolume"),
				ExtraArgs:     c.cfg.ExtraControllerManagerArgs,
			})
		}))
}

// approve keeps the API server's own names from nodes.
func (c *controlPlane) approve(ctx context.Context, client kubernetes.Interface) error {
	certificate, err := os.ReadFile(c.keys.Files.APIServerCert)
	if err != nil {
		return fmt.Errorf("read the API server's certificate: %w", err)
	}
	reserved, err := approve.ReservedBy(certificate)
	if err != nil {
		return err
	}
	return approve.Run(ctx, client, reserved, c.deps.Log.With("part", "approver"))
}

const (
	// pollEvery is how often a starting API server is asked: its answer is late
	// by half of this, and asking costs 0.1 ms.
	pollEvery = 10 * time.Millisecond
	// startPatience is how long a start may take on a slow, busy machine.
	startPatience = 3 * time.Minute
)

// await asks the API server's path until it says yes.
func (c *controlPlane) await(ctx context.Context, loopback *rest.Config, path string) error {
	h, err := rest.HTTPClientFor(loopback)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return c.retry(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, loopback.Host+path, nil)
		if err != nil {
			return err
		}
		resp, err := h.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("ask %s: %s", path, resp.Status)
		}
		return nil
	})
}

// retry repeats what a starting API server may refuse, until it works, a part
// dies or patience ends.
func (c *controlPlane) retry(ctx context.Context, try func() error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-patience.C:
			return fmt.Errorf("wait for apiserver for %s: %w", startPatience, err)
		case <-ctx.Done(): // a part died, too
			return ctx.Err()
		}
	}
}

func (c *Config) adminKubeconfig() string { return filepath.Join(c.DataDir, "admin.kubeconfig") }

func addressList(a netip.Addr) []netip.Addr { return []netip.Addr{a} }
