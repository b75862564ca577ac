package serve

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"nodelet/controlplane/etcd"
	"nodelet/controlplane/identity"
	"nodelet/controlplane/pki"
)

// Version is this program's, set by the linker.
var Version = "dev"

// Deps are the seams to the outside.
type Deps struct {
	Log   *slog.Logger
	Ready *os.File // gets "keys\n", then "ready\n", and is closed; nil if nobody asks
	Now   func() time.Time
}

// controlPlane is what has been started so far.
type controlPlane struct {
	cfg   Config
	deps  Deps
	begun time.Time
	fail  context.CancelCauseFunc // ends everything; the first cause counts

	listener  *listener
	database  *etcd.Server // nil with an external one
	endpoints []string     // of the database
	keys      *pki.Cluster

	// In the order of their start; stopped the other way round.
	parts []*part
}

// Run serves until ctx ends, which is a wanted end, or until a part dies.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	if err := cfg.check(); err != nil {
		return err
	}
	lock, err := openData(cfg)
	if err != nil {
		return err
	}
	defer lock.Close()
	removePID, err := writePID(cfg.PIDFile)
	if err != nil {
		return err
	}
	defer removePID()
	life, fail := context.WithCancelCause(ctx)
	c := &controlPlane{cfg: cfg, deps: deps, begun: deps.Now(), fail: fail}
	err = c.start(life)
	if err == nil {
		err = c.attend(life)
	}
	if cause := context.Cause(life); cause != nil {
		err = cause // what the start or whoever else saw is its consequence
	}
	fail(err)
	if ctx.Err() != nil {
		err = nil // asked to stop, perhaps while starting
	}
	if err != nil {
		// Now, not only at the end: should stopping hang or crash, it is known why.
		deps.Log.Error("control plane ends", "err", err)
	}
	c.stop(err)
	return err
}

// attend keeps things in order until life ends.
func (c *controlPlane) attend(life context.Context) error {
	renew := time.NewTicker(renewEvery)
	defer renew.Stop()
	for {
		select {
		case <-life.Done():
			return context.Cause(life)
		case <-renew.C:
			if err := c.makeKeys(); err != nil {
				c.deps.Log.Error("renew certificates", "err", err)
			}
		}
	}
}

// renewEvery looks for certificates near their end: everything upstream reads
// them from files again by itself.
const renewEvery = 24 * time.Hour

// makeKeys brings the keys and everything derived from them up to date.
func (c *controlPlane) makeKeys() error {
	names, addrs := c.cfg.certificateNames()
	keys, err := pki.Ensure(pki.Config{
		Dir: c.cfg.in("pki"), ClusterDomain: c.cfg.ClusterDomain,
		Names: names, Addresses: addrs, Now: c.deps.Now(), Log: c.deps.Log,
	})
	if err != nil {
		return err
	}
	c.keys = keys
	return c.writeIdentities()
}

func (c *controlPlane) writeIdentities() error {
	url, f := c.cfg.url(), c.keys.Files
	for _, one := range []struct{ file, user, cert, key string }{
		{"controller-manager.kubeconfig", pki.UserControllerManager, f.ControllerManagerCert, f.ControllerMgrKey},
		{"scheduler.kubeconfig", pki.UserScheduler, f.SchedulerCert, f.SchedulerKey},
	} {
		err := identity.ByReference(c.cfg.in(one.file), url, one.user, identity.Files{CA: f.CACert, Cert: one.cert, Key: one.key})
		if err != nil {
			return err
		}
	}
	signer := identity.Signer{CA: c.keys.CA, Now: c.deps.Now(), Log: c.deps.Log}
	if err := signer.Admin(c.cfg.adminKubeconfig(), url); err != nil {
		return err
	}
	return signer.Node(identity.NodeConfig{
		Dir: c.cfg.DataDir, Name: c.cfg.NodeName, Server: url,
		Addresses: addressList(c.cfg.AdvertiseAddress),
	})
}

// progress logs one finished step of the start.
func (c *controlPlane) progress(what string, since time.Time) {
	now := c.deps.Now()
	c.deps.Log.Info(what, "took", now.Sub(since).Round(time.Millisecond), "total", now.Sub(c.begun).Round(time.Millisecond))
}

// How long a part may take to end before it is left behind: the process ends
// anyway, and all that must survive is on disk.
const stopPatience = 10 * time.Second

// stop ends everything in the reverse order of the start, the database last: an
// API server whose database is gone never ends, so then nothing is waited for.
func (c *controlPlane) stop(why error) {
	if errors.Is(why, errDatabase) {
		return
	}
	for i := len(c.parts) - 1; i >= 0; i-- {
		p, begin := c.parts[i], c.deps.Now()
		if !p.stop(stopPatience) {
			c.deps.Log.Warn("part did not end in time", "part", p.name, "waited", stopPatience)
			continue
		}
		c.progress(p.name+" stopped", begin)
	}
	if c.listener != nil {
		c.listener.Close()
	}
	if c.database != nil {
		begin := c.deps.Now()
		c.database.Stop()
		c.progress("etcd stopped", begin)
	}
}

// errDatabase marks the errors of the embedded database.
var errDatabase = errors.New("database")

// tell writes one line of progress to --ready-fd: "keys" once the keys and
// kubeconfigs are there, "ready" once everything works. That nobody listens any
// more, since whoever started us was killed, is no reason to end.
func (c *controlPlane) tell(line string) {
	if c.deps.Ready == nil {
		return
	}
	if _, err := c.deps.Ready.WriteString(line + "\n"); err != nil {
		c.deps.Log.Warn("nobody reads --ready-fd", "line", line, "err", err)
	}
}

// tellReady is the last word.
func (c *controlPlane) tellReady() {
	c.tell("ready")
	if c.deps.Ready != nil {
		c.deps.Ready.Close()
	}
}
