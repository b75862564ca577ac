package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"nodelet/bench/area"
	"nodelet/bench/stack"
)

// bundle is a directory that runc makes containers of, without a container runtime.
type bundle struct {
	dir string
	// state is where runc keeps what it knows of its containers.
	state string
}

// bundled measures a pod's container made by runc itself: the first one warms everything up.
func bundled(ctx context.Context, n *area.Node, count int) error {
	b := bundle{dir: filepath.Join(n.Dir, "bundle"), state: filepath.Join(n.Run, "runc")}
	if err := b.make(ctx, n.Cgroup); err != nil {
		return err
	}
	for i := range count {
		took, err := b.start(ctx, fmt.Sprintf("alone-%d", i))
		if err != nil {
			return errors.Join(err, b.remove(ctx))
		}
		if i > 0 {
			n.Add(oneP50, alone, ms(took))
			n.Add(restarted, alone, ms(took))
		}
	}
	return b.remove(ctx)
}

func (b bundle) root() string { return filepath.Join(b.dir, "rootfs") }

// make mounts the image that pods have, and lets runc write its usual configuration.
func (b bundle) make(ctx context.Context, cgroup string) error {
	if err := os.MkdirAll(b.root(), 0o755); err != nil {
		return fmt.Errorf("make a bundle: %w", err)
	}
	for _, args := range [][]string{
		{"ctr", "-n", "k8s.io", "images", "mount", "--rw", stack.HelloImage, b.root()},
		{"runc", "spec", "--bundle", b.dir},
	} {
		if err := run(ctx, args...); err != nil {
			return errors.Join(err, b.remove(ctx))
		}
	}
	return b.configure(cgroup)
}

// remove is not for what failed halfway only: the mount would keep the node's directory busy.
func (b bundle) remove(ctx context.Context) error {
	return run(ctx, "ctr", "-n", "k8s.io", "images", "unmount", "--rm", b.root())
}

// configure makes runc's configuration one of the pods' container: its program, no terminal, the node's
// cgroup.
func (b bundle) configure(cgroup string) error {
	file := filepath.Join(b.dir, "config.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read what runc has written: %w", err)
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	process, isProcess := whole["process"].(map[string]any)
	linux, isLinux := whole["linux"].(map[string]any)
	if !isProcess || !isLinux {
		return fmt.Errorf("read %s: it has no process or linux", file)
	}
	process["terminal"], process["args"] = false, []string{"/hello"}
	linux["cgroupsPath"] = filepath.Join("/", cgroup, "alone")
	if text, err = json.Marshal(whole); err != nil {
		return fmt.Errorf("configure runc: %w", err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return fmt.Errorf("configure runc: %w", err)
	}
	return nil
}

// start makes and starts a container as a shim does, by two calls, and removes it.
func (b bundle) start(ctx context.Context, id string) (time.Duration, error) {
	begin := time.Now()
	err := run(ctx, "runc", "--root", b.state, "create", "--bundle", b.dir, id)
	if err == nil {
		err = run(ctx, "runc", "--root", b.state, "start", id)
	}
	took := time.Since(begin)
	return took, errors.Join(err, run(ctx, "runc", "--root", b.state, "delete", "--force", id))
}

// run gives the program no pipe: a container keeps its output open.
func run(ctx context.Context, args ...string) error {
	if err := exec.CommandContext(ctx, args[0], args[1:]...).Run(); err != nil {
		return fmt.Errorf("%s: %w", args, err)
	}
	return nil
}
