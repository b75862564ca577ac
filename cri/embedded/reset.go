package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Reset removes what a containerd that does not run any more left behind: containers, shims, cgroups,
// mounts, network namespaces, and at last both directories. It recognises shims by the socket they
// report to and containers by their ids, both exactly: nothing of another containerd is touched. It
// may be repeated.
func Reset(ctx context.Context, root, state string) error {
	config, release, err := stopped(root, state)
	if err != nil {
		return fmt.Errorf("reset containerd: %w", err)
	}
	defer release()
	if _, err := config.stopAll(ctx); err != nil {
		return fmt.Errorf("reset containerd: %w", err)
	}
	if err := removeTree(config.Root); err != nil {
		return fmt.Errorf("reset containerd: %w", err)
	}
	return nil
}

// StopAll ends every container of a containerd that does not run any more, as a reboot would: what
// belongs to running containers is gone, images and the records of containers stay. It gives the ids.
func StopAll(ctx context.Context, root, state string) ([]string, error) {
	config, release, err := stopped(root, state)
	if err != nil {
		return nil, fmt.Errorf("stop containers: %w", err)
	}
	defer release()
	if err := config.saveRecords(); err != nil {
		return nil, fmt.Errorf("stop containers: %w", err)
	}
	ids, err := config.stopAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("stop containers: %w", err)
	}
	return ids, nil
}

// saveRecords saves the databases of a containerd that was killed, if there are any.
func (c Config) saveRecords() error {
	r, err := c.records("", slog.New(slog.DiscardHandler))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.save()
}

// stopped makes sure that no containerd runs on the directories, nor starts until release is called.
func stopped(root, state string) (config Config, release func(), err error) {
	for _, dir := range []string{root, state} {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
			return config, nil, fmt.Errorf("%q is not a directory of its own", dir)
		}
	}
	config = Config{Root: filepath.Clean(root), State: filepath.Clean(state)}
	if _, err := os.Stat(config.Root); err != nil {
		return config, func() {}, nil
	}
	lock, err := lockRoot(config.Root)
	if err != nil {
		return config, nil, err
	}
	return config, func() { _ = lock.Close() }, nil
}

// stopAll kills containers and shims and removes all that belongs to running ones.
func (c Config) stopAll(ctx context.Context) ([]string, error) {
	containers := c.containers()
	if err := killAll(ctx, c.Socket(), containers); err != nil {
		return nil, err
	}
	var ids []string
	var errs []error
	for _, l := range containers {
		ids = append(ids, l.id)
		errs = append(errs, l.removeCgroups())
	}
	for _, dir := range []string{c.State, c.shimSockets()} {
		errs = append(errs, removeTree(dir))
	}
	return ids, errors.Join(errs...)
}

// leftover is a container as runc and containerd noted it.
type leftover struct {
	id      string
	cgroups []string // directories
}

// containers reads the ids from the bundles and from runc's records: either may be missing after a
// crash in between.
func (c Config) containers() []leftover {
	found := map[string]*leftover{}
	for _, pattern := range []string{"io.containerd.runtime.v2.task/*/*", "runc/*/*"} {
		paths, _ := filepath.Glob(filepath.Join(c.State, pattern)) // the pattern is well-formed
		for _, path := range paths {
			id := filepath.Base(path)
			if found[id] == nil {
				found[id] = &leftover{id: id}
			}
			found[id].cgroups = append(found[id].cgroups, cgroupsOf(filepath.Join(path, "state.json"))...)
		}
	}
	var all []leftover
	for _, l := range found {
		all = append(all, *l)
	}
	return all
}

// cgroupsOf reads runc's record of a container; a bundle has none.
func cgroupsOf(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var record struct {
		Paths map[string]string `json:"cgroup_paths"`
	}
	if err := json.Unmarshal(data, &record); err != nil {
		return nil // cut off by a crash; the processes are found by their ids all the same
	}
	var dirs []string
	for _, dir := range record.Paths {
		dirs = append(dirs, dir)
	}
	return dirs
}

// removeCgroups removes the container's own cgroups; those of pods belong to the agent.
func (l leftover) removeCgroups() error {
	var errs []error
	for _, dir := range l.cgroups {
		if filepath.Base(dir) != l.id && filepath.Base(dir) != "cri-containerd-"+l.id+".scope" {
			continue
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}

// killPatience is how long the number of processes may stay as it is: on a busy machine dozens of containers
// take their time, one after the other.
const killPatience = 10 * time.Second

// killAll kills the containers' processes and then the shims, until none is left.
func killAll(ctx context.Context, socket string, containers []leftover) error {
	ids := map[string]bool{}
	for _, c := range containers {
		ids[c.id] = true
	}
	least, since := math.MaxInt, time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		inside, shims := processes(socket, ids)
		// A shim that sees its containers die may still tidy up; killed first, it could not.
		targets := inside
		if len(inside) == 0 {
			targets = shims
		}
		if len(targets) == 0 {
			return nil
		}
		if n := len(inside) + len(shims); n < least {
			least, since = n, time.Now()
		}
		if time.Since(since) > killPatience {
			return fmt.Errorf("kill containers and shims: processes %v do not go away: they may hang in the kernel (a network file system?)", targets)
		}
		for _, pid := range targets {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("kill containers and shims: processes %v are left: %w", targets, ctx.Err())
		}
	}
}

// processes finds the shims that report to socket, and what runs in the containers: by the
// containers' ids, and, should their records be gone, below the shims, which adopt all orphans.
func processes(socket string, ids map[string]bool) (inside, shims []int) {
	parents := parentsOf()
	ours := map[int]bool{}
	for pid := range parents {
		if isShim(pid, socket) {
			shims = append(shims, pid)
			ours[pid] = true
		}
	}
	for pid := range parents {
		if !ours[pid] && pid != os.Getpid() && (descends(pid, parents, ours) || inContainer(pid, ids)) {
			inside = append(inside, pid)
		}
	}
	return inside, shims
}

// parentsOf maps all processes but zombies to their parents.
func parentsOf() map[int]int {
	parents := map[int]int{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent, alive := statOf(pid); alive {
			parents[pid] = parent
		}
	}
	return parents
}

func descends(pid int, parents map[int]int, from map[int]bool) bool {
	// The bound is for a snapshot in which pids were reused: it may hold a circle.
	for range len(parents) {
		parent, known := parents[pid]
		if !known {
			return false
		}
		if from[parent] {
			return true
		}
		pid = parent
	}
	return false
}

// isShim looks at the arguments: containerd-shim-runc-v2 -namespace k8s.io -id ID -address SOCKET.
// In another pid namespace, that of a container or of a lab's node, the same path is another socket.
func isShim(pid int, socket string) bool {
	if !samePIDs(pid) {
		return false
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(string(cmdline), "\x00")
	if filepath.Base(args[0]) != shimName {
		return false
	}
	i := slices.Index(args, "-address")
	return i >= 0 && i+1 < len(args) && args[i+1] == socket
}

// samePIDs tells whether a process is in this one's pid namespace.
func samePIDs(pid int) bool {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return false
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	return err == nil && its == own
}

// inContainer looks for a container's id at the end of a cgroup: .../ID or .../cri-containerd-ID.scope,
// and anything below it, which is where a container with its own cgroups puts its processes.
func inContainer(pid int, ids map[string]bool) bool {
	cgroups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	for part := range strings.FieldsFuncSeq(string(cgroups), func(r rune) bool { return r == '/' || r == '\n' || r == ':' }) {
		part = strings.TrimSuffix(strings.TrimPrefix(part, "cri-containerd-"), ".scope")
		if ids[part] {
			return true
		}
	}
	return false
}

// statOf reads a process's parent; one that has exited and only waits for it is not alive.
func statOf(pid int) (parent int, alive bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// "pid (name) state parent ...": the name may hold anything, so look behind the last parenthesis.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 || fields[0] == "Z" {
		return 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, err == nil
}

// removeTree unmounts everything at and below dir and removes it. With a mount left it removes
// nothing: what is behind a mount is somebody else's.
func removeTree(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, mount := range slices.Backward(mounts) {
		err := unix.Unmount(mount, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", mount, err)
		}
	}
	if mounts, err = mountsBelow(dir); err != nil || len(mounts) > 0 {
		return errors.Join(err, fmt.Errorf("remove %s: still mounted: %q", dir, mounts))
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove containerd's directory: %w", err)
	}
	return nil
}

// mountsBelow lists the mounts at and below dir, in the order they were made.
func mountsBelow(dir string) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	defer func() { _ = file.Close() }()
	var mounts []string
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20) // an overlay of many layers has a long line
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		const mountPoint = 4
		if len(fields) <= mountPoint {
			continue
		}
		point := unescape(fields[mountPoint])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			mounts = append(mounts, point)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return mounts, nil
}

// unescape undoes the kernel's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
