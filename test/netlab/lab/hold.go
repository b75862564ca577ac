package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"nodelet/internal/netns"
)

// holdEnv makes a program that imports this package be the holder of a node;
// its value is "name:directory".
const holdEnv = "NODELET_LAB_HOLD"

// privateDirs are the directories of which each node has its own.
func privateDirs() []string {
	return []string{"/var/lib/nodelet", "/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/etc/cni"}
}

// Hold must be the first thing main or TestMain calls: in a holder process it
// never returns.
func Hold() {
	name, dir, ok := strings.Cut(os.Getenv(holdEnv), ":")
	if !ok {
		return
	}
	if err := hold(name, dir); err != nil {
		fmt.Fprintf(os.Stderr, "hold %s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// holder is the starting process' view of a holder: one pipe each way.
type holder struct {
	toIt   *os.File
	fromIt *bufio.Reader
	bound  bool
}

// startHolder starts this program again as process 1 of new namespaces and
// waits until its mounts are made.
func startHolder(node *Node, bound bool) (*holder, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(node.Dir, "holder.log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), holdEnv+"="+node.Name+":"+node.Dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, outW, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC}
	err = cmd.Start()
	_, _, _ = inR.Close(), outW.Close(), log.Close()
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	node.PID = cmd.Process.Pid
	if node.Start, err = startTime(node.PID); err != nil {
		return nil, err
	}
	h := &holder{toIt: inW, fromIt: bufio.NewReader(outR), bound: bound}
	return h, h.expect("mounted", log.Name())
}

func (h *holder) expect(word, log string) error {
	line, err := h.fromIt.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != word {
		text, _ := os.ReadFile(log)
		return fmt.Errorf("holder ended before it was %s: %s", word, text)
	}
	return nil
}

// proceed tells the holder that its network is there. A bound holder ends
// with the pipe, that is with this process.
func (h *holder) proceed() error {
	word := "stay\n"
	if h.bound {
		word = "bound\n"
	}
	if _, err := io.WriteString(h.toIt, word); err != nil {
		return fmt.Errorf("tell holder to go on: %w", err)
	}
	if h.bound {
		// A copy that no garbage collection closes: only the end of this process may.
		if _, err := unix.FcntlInt(h.toIt.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return fmt.Errorf("tie holder to this process: %w", err)
		}
	}
	return h.toIt.Close()
}

// hold is the holder's life: mounts, then waiting, reaping whatever orphans
// the node's processes leave to process 1.
func hold(name, dir string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := mounts(dir); err != nil {
		return err
	}
	if err := netns.Disinherit(); err != nil {
		return err
	}
	fmt.Println("mounted")
	in := bufio.NewReader(os.Stdin)
	word, err := in.ReadString('\n')
	if err != nil {
		return errors.New("the lab gave up")
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	orphaned := make(chan struct{})
	if strings.TrimSpace(word) == "bound" {
		go func() {
			_, _ = io.Copy(io.Discard, in)
			close(orphaned)
		}()
	}
	for {
		select {
		case <-children:
			for {
				if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		case <-stop:
			return nil
		case <-orphaned:
			return nil
		}
	}
}

// mounts gives the node its own /run, /proc, /sys with the machine's cgroups,
// and the directories a node keeps its things in.
func mounts(dir string) error {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := unix.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", source, target, err)
		}
		return nil
	}
	// First away from the host: nothing mounted here may show there.
	if err := mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	cgroups := filepath.Join(dir, "cgroup")
	if err := os.MkdirAll(cgroups, 0o755); err != nil {
		return err
	}
	err := errors.Join(
		mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		// A fresh sysfs shows the links of this network namespace, but no cgroups.
		mount("/sys/fs/cgroup", cgroups, "", unix.MS_BIND|unix.MS_REC, ""),
		mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
		mount(cgroups, "/sys/fs/cgroup", "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Unmount(cgroups, unix.MNT_DETACH),
		mount("bpf", "/sys/fs/bpf", "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"),
		mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"),
		os.MkdirAll("/run/lock", 0o1777), os.MkdirAll("/run/netns", 0o755),
	)
	if err != nil {
		return err
	}
	for _, target := range privateDirs() {
		own := filepath.Join(dir, "root", target)
		if err := os.MkdirAll(own, 0o755); err != nil {
			return err
		}
		if err := mount(own, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	// Volumes that pods mount for others must be seen by them.
	return mount("none", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}
