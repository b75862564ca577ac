package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nodelet/agent/volume"
	"nodelet/cni"
	"nodelet/cri/embedded"
	"nodelet/dns"
	"nodelet/internal/cgroup"
	"nodelet/internal/logind"
	"nodelet/internal/proc"
	"nodelet/internal/store"
	"nodelet/proxy"
	"nodelet/proxy/ebpf"
)

// StopPods ends every container of the embedded runtime, as a reboot would.
// The daemon must not run. Containers of a foreign runtime are left alone
// until a reset: that is another program's, and its own tools stop them.
func StopPods(ctx context.Context, c Config) ([]string, error) {
	if !c.Has(Agent) {
		return nil, nil
	}
	return embedded.StopAll(ctx, c.Layout.ContainerdRoot(), c.Layout.ContainerdState())
}

// Cleanup removes every trace of a daemon that does not run any more, and says
// what it removed. It goes on after errors: what can be removed is.
func Cleanup(ctx context.Context, l Layout) (removed []string, err error) {
	c, err := LoadConfig(l)
	if err != nil {
		return nil, err
	}
	before, err := Residue(ctx, l)
	if err != nil {
		return nil, err
	}
	// Before anything is taken from under the pods; and the runtime executes our CNI plugin for each.
	if err := c.removeForeignPods(ctx); err != nil {
		return nil, err
	}
	errs := []error{embedded.Reset(ctx, l.ContainerdRoot(), l.ContainerdState())}
	for _, f := range c.leavers() {
		errs = append(errs, f.cleanup(ctx))
	}
	if c.Has(Agent) {
		errs = append(errs, removePodLogs(l), removeKubeletDirs(l.KubeletRoot()))
	}
	// The configuration is in the data directory: it goes last, and only when
	// all else is gone, so that a second reset still knows what to look for.
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, dir := range []string{l.Run, l.Data} {
		errs = append(errs, removeDir(dir))
	}
	after, err := Residue(ctx, l)
	return difference(before, after), errors.Join(append(errs, err)...)
}

// Residue lists what is left of a daemon that does not run any more.
func Residue(ctx context.Context, l Layout) ([]string, error) {
	c, err := LoadConfig(l)
	if err != nil {
		return nil, err
	}
	var left []string
	var errs []error
	for _, pidFile := range []string{l.PIDFile(), l.ControlPlanePIDFile()} {
		if p, err := proc.Find(pidFile); err == nil && p != nil {
			left = append(left, fmt.Sprintf("process %d (%s)", p.PID, filepath.Base(pidFile)))
			p.Close()
		}
	}
	pods, err := c.foreignResidue(ctx)
	left, errs = append(left, pods...), append(errs, err)
	for _, f := range c.leavers() {
		found, err := f.residue(ctx)
		left, errs = append(left, found...), append(errs, err)
	}
	mounts, err := mountsBelow(l.Data, l.Run)
	left, errs = append(left, mounts...), append(errs, err)
	if c.Has(Agent) {
		for _, path := range podLogs(l) {
			left = append(left, "file "+path)
		}
	}
	for _, dir := range []string{l.Data, l.Run} {
		there, err := remains(dir)
		if there {
			left = append(left, "file "+dir)
		}
		errs = append(errs, err)
	}
	return left, errors.Join(errs...)
}

// removeDir removes a directory. One that is a disk of its own is only emptied.
func removeDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err := os.Remove(dir); err != nil && !isNotEmpty(err) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// remains tells whether there is something of ours to remove: not an empty
// directory that is a mount point.
func remains(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || len(entries) > 0 {
		return true, err
	}
	mounts, err := mountPoints()
	return !slices.Contains(mounts, dir), err
}

// leaver is a part that leaves things outside of the data and run directories.
type leaver struct {
	cleanup func(context.Context) error
	residue func(context.Context) ([]string, error)
}

// leavers are all parts that may have left something. The agent counts only if
// it ever ran: the volumes, logs and cgroups of another kubelet are not ours.
func (c *Config) leavers() []leaver {
	log := slog.New(slog.DiscardHandler)
	var out []leaver
	add := func(cleanup func(context.Context) error, residue func(context.Context) ([]string, error)) {
		out = append(out, leaver{cleanup, residue})
	}
	if root := c.Layout.KubeletRoot(); c.Has(Agent) {
		add(func(context.Context) error { return c.Layout.removeSeccomp() }, func(context.Context) ([]string, error) { return c.Layout.seccompResidue(), nil })
		add(func(context.Context) error { return volume.Cleanup(root) }, func(context.Context) ([]string, error) { return volume.Residue(root) })
	}
	if marker := c.Layout.DynamicCgroups(); c.Has(Agent) {
		add(func(context.Context) error { return cgroup.RestoreDynamic(marker) }, func(context.Context) ([]string, error) {
			if _, err := os.Stat(marker); err != nil {
				return nil, nil
			}
			return []string{"mount option favordynmods of cgroup2"}, nil
		})
	}
	if c.Has(Agent) {
		for _, tree := range c.cgroupTrees(cgroup.Deps{Log: log}) {
			add(func(context.Context) error { return tree.Cleanup() }, func(context.Context) ([]string, error) { return tree.Residue(), nil })
		}
	}
	if len(c.Kubelet.Shutdown.Periods()) > 0 {
		add(func(context.Context) error { return logind.Cleanup() }, func(context.Context) ([]string, error) { return logind.Residue(), nil })
	}
	add(
		func(ctx context.Context) error { return cni.Cleanup(ctx, c.cni(), log) },
		func(ctx context.Context) ([]string, error) { return cni.Residue(ctx, c.cni()) })
	add(
		func(context.Context) error { return c.removeInstalled() },
		func(context.Context) ([]string, error) { return c.installed(), nil })
	add(
		func(ctx context.Context) error {
			_, err := proxy.Cleanup(ctx, c.proxy())
			return err
		},
		func(ctx context.Context) ([]string, error) { return proxy.Residue(ctx, c.proxy()) })
	add(
		func(context.Context) error { return ebpf.RemoveTrials() },
		func(context.Context) ([]string, error) { return ebpf.Trials() })
	s, _ := store.New()
	if dc, err := c.dns(); err == nil {
		if d, err := dns.New(dc, dns.Deps{Store: s, Log: log}); err == nil {
			add(d.Cleanup, d.Residue)
		}
	}
	return out
}

// podLogs lists the log directories of pods, and the links to logs that lead nowhere else.
func podLogs(l Layout) []string {
	// <namespace>_<name>_<uid>: neither part can contain an underscore.
	logs, _ := filepath.Glob(filepath.Join(l.PodLogs(), "*_*_*"))
	links, _ := filepath.Glob(filepath.Join(l.ContainerLogs(), "*.log"))
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, l.PodLogs()+"/") {
			logs = append(logs, link)
		}
	}
	return logs
}

func removePodLogs(l Layout) error {
	var errs []error
	for _, path := range podLogs(l) {
		errs = append(errs, os.RemoveAll(path))
	}
	for _, dir := range []string{l.PodLogs(), l.ContainerLogs()} {
		// Only when empty: other programs may keep theirs there.
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !isNotEmpty(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// difference gives what is in before but not in after.
func difference(before, after []string) []string {
	still := map[string]bool{}
	for _, s := range after {
		still[s] = true
	}
	var gone []string
	for _, s := range before {
		if !still[s] {
			gone = append(gone, s)
		}
	}
	return gone
}

// removeKubeletDirs removes the kubelet root and the directories of plugins in it, where they are empty: others
// may keep theirs there.
func removeKubeletDirs(root string) error {
	var errs []error
	for _, dir := range []string{"device-plugins", "pod-resources", "plugins", "plugins_registry", "pods", ""} {
		if err := os.Remove(filepath.Join(root, dir)); err != nil && !errors.Is(err, fs.ErrNotExist) && !isNotEmpty(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
