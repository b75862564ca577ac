package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"nodelet/internal/model"
)

// ErrBusy says that processes still live in a cgroup that was to be removed.
var ErrBusy = errors.New("cgroup has processes")

// Config is where the tree is.
type Config struct {
	// Root is the name of the tree, "kubepods"; a path when it lives below another cgroup. With the systemd
	// driver it is that of slices.
	Root string
	// Mount is where the cgroup file systems are mounted, MountInfo the table of mounts; empty
	// means /sys/fs/cgroup and /proc/self/mountinfo.
	Mount, MountInfo string
}

// Deps are the seams of a Tree.
type Deps struct {
	Log *slog.Logger
	// Units makes the systemd driver; nil: cgroups are made directly.
	Units Units
}

// Tree is the cgroups of all pods.
type Tree struct {
	names []string // "kubepods"
	root  string   // "/kubepods", or "/kubepods.slice" with the systemd driver
	units Units
	h     *hierarchies
	log   *slog.Logger

	mu     sync.Mutex // one change of the tree at a time: a class sums up its pods
	warned map[string]bool
}

// New finds out what is mounted. It changes nothing.
func New(cfg Config, deps Deps) (*Tree, error) {
	root := path.Clean("/" + cfg.Root)
	if root == "/" {
		return nil, errors.New("cgroup root must have a name: the root of the file system is not ours")
	}
	h, err := find(cmp.Or(cfg.Mount, "/sys/fs/cgroup"), cmp.Or(cfg.MountInfo, "/proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	t := &Tree{names: strings.Split(root[1:], "/"), units: deps.Units, h: h, log: deps.Log, warned: map[string]bool{}}
	t.root = t.at()
	return t, nil
}

// Root is the cgroup of all pods.
func (t *Tree) Root() string { return t.root }

// V2 tells whether memory and CPU are limited by cgroup v2. A hybrid may have other controllers there.
func (t *Tree) V2() bool { return slices.Contains(t.h.v2, "memory") }

// Controllers names the controllers that are there, sorted.
func (t *Tree) Controllers() []string {
	all := slices.Clone(t.h.v2)
	for c := range t.h.v1 {
		if !strings.HasPrefix(c, "name=") {
			all = append(all, c)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Path is the cgroup of a pod. It is what CRI wants for a sandbox (cgroup_parent), with the systemd driver its
// last part.
func (t *Tree) Path(q QoS, uid model.UID) string { return t.at(q.dir(), "pod"+uid.String()) }

// Ensure makes the cgroup of a pod, those above it, and writes its limits. It gives the pod's Path.
func (t *Tree) Ensure(pod Pod) (string, error) {
	if err := checkUID(pod.UID); err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	dir := t.Path(pod.QoS, pod.UID)
	if err := t.make(dir, pod.Limits); err != nil {
		return "", fmt.Errorf("make cgroup %s: %w", dir, err)
	}
	if err := t.weigh(pod.QoS); err != nil {
		return "", err
	}
	return dir, nil
}

// EnsureRoot makes the root of the tree with the limits of all pods together: the node's
// allocatable resources.
func (t *Tree) EnsureRoot(l Limits) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.make(t.root, l); err != nil {
		return fmt.Errorf("make cgroup %s: %w", t.root, err)
	}
	for _, q := range []QoS{Burstable, BestEffort} {
		if err := t.weigh(q); err != nil {
			return err
		}
	}
	return nil
}

// weigh gives the cgroup of a class its share of the CPU: best effort the least there is, burstable
// the sum of what its pods have. The sum is read from the kernel: nothing has to be remembered.
func (t *Tree) weigh(q QoS) error {
	if q == Guaranteed {
		return nil
	}
	class := t.at(q.dir())
	sum := uint64(0)
	if q == Burstable {
		dir, v2, ok := t.h.tree("cpu")
		if !ok {
			return t.make(class, Limits{})
		}
		for _, name := range children(filepath.Join(dir, class)) {
			sum += readShares(filepath.Join(dir, class, name), v2)
		}
	}
	if err := t.make(class, Limits{CPUShares: max(sum, minShares)}); err != nil {
		return fmt.Errorf("weigh cgroup %s: %w", class, err)
	}
	return nil
}

// Remove removes the cgroup of a pod from all trees; one that is not there is removed already. With
// processes in it nothing is removed and the error is ErrBusy, naming them.
func (t *Tree) Remove(uid model.UID) error {
	if err := checkUID(uid); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if pids := t.processes(uid); len(pids) > 0 {
		return fmt.Errorf("remove cgroup of pod %s: %w: %v", uid, ErrBusy, pids)
	}
	for _, dir := range t.dirs(uid) {
		if t.units != nil {
			if err := t.units.Stop(filepath.Base(dir)); err != nil {
				return err
			}
		}
		if err := removeTree(dir); err != nil {
			return fmt.Errorf("remove cgroup of pod %s: %w", uid, err)
		}
	}
	if _, err := t.stat(t.at(Burstable.dir())); err == nil {
		return t.weigh(Burstable)
	}
	return nil
}

// Processes are the pids in the cgroup of a pod and below it, sorted.
func (t *Tree) Processes(uid model.UID) ([]int, error) {
	if err := checkUID(uid); err != nil {
		return nil, err
	}
	return t.processes(uid), nil
}

func (t *Tree) processes(uid model.UID) []int {
	var pids []int
	for _, dir := range t.dirs(uid) {
		pids = append(pids, processes(dir)...)
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// dirs are the directories of a pod's cgroup in all trees and classes.
func (t *Tree) dirs(uid model.UID) []string {
	var dirs []string
	for _, q := range []QoS{Guaranteed, Burstable, BestEffort} {
		for _, tree := range t.h.all {
			dir := filepath.Join(tree, t.Path(q, uid))
			if _, err := os.Lstat(dir); err == nil {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// Pods are the UIDs of all pods that have a cgroup in any tree, sorted.
func (t *Tree) Pods() []model.UID {
	var uids []model.UID
	for _, q := range []QoS{Guaranteed, Burstable, BestEffort} {
		for _, tree := range t.h.all {
			for _, name := range children(filepath.Join(tree, t.at(q.dir()))) {
				if uid, ok := t.podOf(q, name); ok {
					uids = append(uids, uid)
				}
			}
		}
	}
	slices.Sort(uids)
	return slices.Compact(uids)
}

// Residue lists every directory of the tree that exists, for proving that a reset left none.
func (t *Tree) Residue() []string {
	var found []string
	for _, tree := range t.h.all {
		dir := filepath.Join(tree, t.root)
		// What vanishes while we look is no residue, so errors are of no interest here.
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				found = append(found, p)
			}
			return nil
		})
	}
	return found
}

// Cleanup removes the whole tree. With processes anywhere in it the error is ErrBusy and nothing is removed.
func (t *Tree) Cleanup() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tree := range t.h.all {
		if pids := processes(filepath.Join(tree, t.root)); len(pids) > 0 {
			return fmt.Errorf("remove cgroup %s: %w: %v", t.root, ErrBusy, pids)
		}
	}
	if _, err := t.stat(t.root); err == nil && t.units != nil {
		if err := t.stopSlices(t.root); err != nil {
			return err
		}
	}
	for _, tree := range t.h.all {
		if err := removeTree(filepath.Join(tree, t.root)); err != nil {
			return fmt.Errorf("remove cgroup %s: %w", t.root, err)
		}
	}
	return nil
}

// stat looks for a cgroup in any tree.
func (t *Tree) stat(cgroup string) (string, error) {
	for _, tree := range t.h.all {
		dir := filepath.Join(tree, cgroup)
		if _, err := os.Lstat(dir); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("cgroup %s: %w", cgroup, fs.ErrNotExist)
}

// checkUID keeps a UID from naming anything but a directory entry.
func checkUID(uid model.UID) error {
	for _, c := range uid {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			continue
		}
		return fmt.Errorf("pod UID %q cannot name a cgroup: only letters, digits, - and _ can", uid)
	}
	if uid == "" || len(uid) > 200 { // a directory entry has at most 255 bytes
		return fmt.Errorf("pod UID %q cannot name a cgroup: it must have 1 to 200 characters", uid)
	}
	return nil
}
