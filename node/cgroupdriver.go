package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
	"nodelet/internal/cgroup"
	"nodelet/internal/units"
)

// The cgroup drivers, as KubeletConfiguration names them.
const (
	driverFiles   = "cgroupfs"
	driverSystemd = "systemd"
)

// askDriver is how long a runtime has to say how it makes cgroups.
const askDriver = 10 * time.Second

// buildCgroups opens the cgroup tree with the driver that the container runtime has: two drivers on one
// machine would each take away what the other made (KEP-4033).
func (p *agentParts) buildCgroups() (err error) {
	driver := cgroupDriver(p.n.cfg.Kubelet.CgroupDriver, p.runtime, p.n.deps.Log)
	deps := cgroup.Deps{Log: p.n.deps.Log}
	if p.systemdCgroups = driver == driverSystemd; p.systemdCgroups {
		if err := needsSystemd(); err != nil {
			return err
		}
		deps.Units = units.New() // its connection ends with the process
	}
	if p.cgroups, err = cgroup.New(p.n.cfg.cgroups(), deps); err == nil {
		p.n.favorDynamicCgroups()
	}
	return err
}

// favorDynamicCgroups makes the kernel quick at what every container start does. Where it cannot, all
// is as before.
func (n *Node) favorDynamicCgroups() {
	if n.cfg.Kubelet.StaticCgroups {
		return
	}
	if err := cgroup.FavorDynamic(n.cfg.Layout.DynamicCgroups()); err != nil {
		n.deps.Log.Info("containers start more slowly than they could: the kernel needs Linux 6.0 and cgroup2", "err", err)
	}
}

// configured tells how a container runtime was set up; cri.Runtime does.
type configured interface {
	RuntimeConfig(context.Context, *runtimev1.RuntimeConfigRequest) (*runtimev1.RuntimeConfigResponse, error)
}

// cgroupDriver is what the runtime says; the configuration counts where it does not say, and for the
// embedded one, which was started with it. configuration may be empty.
func cgroupDriver(configuration string, runtime configured, log *slog.Logger) string {
	wanted := or(configuration, driverFiles)
	ctx, cancel := context.WithTimeout(context.Background(), askDriver)
	defer cancel()
	resp, err := runtime.RuntimeConfig(ctx, &runtimev1.RuntimeConfigRequest{})
	switch {
	case errors.Is(err, cri.ErrUnimplemented) || err == nil && resp.GetLinux() == nil:
		log.Info("the container runtime does not say how it makes cgroups: going by cgroupDriver", "driver", wanted)
		return wanted
	case err != nil:
		log.Warn("ask the container runtime how it makes cgroups, going by cgroupDriver", "driver", wanted, "err", err)
		return wanted
	}
	said := driverFiles
	if resp.GetLinux().GetCgroupDriver() == runtimev1.CgroupDriver_SYSTEMD {
		said = driverSystemd
	}
	if configuration != "" && said != wanted {
		log.Warn("the container runtime has another cgroup driver than the configuration: the runtime's counts", "runtime", said, "configuration", wanted)
	}
	return said
}

// needsSystemd says what is missing for the systemd driver.
func needsSystemd() error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return fmt.Errorf("cgroup driver systemd: systemd does not run this machine (%w): set cgroupDriver: cgroupfs, for the container runtime as well", err)
	}
	return nil
}

// cgroupTrees are the trees that the agent may have made, by either driver.
func (c *Config) cgroupTrees(deps cgroup.Deps) (all []*cgroup.Tree) {
	for _, driver := range []string{driverFiles, driverSystemd} {
		if driver == driverSystemd {
			if needsSystemd() != nil {
				continue
			}
			deps.Units = units.New()
		}
		if tree, err := cgroup.New(c.cgroups(), deps); err == nil {
			all = append(all, tree)
		}
	}
	return all
}
