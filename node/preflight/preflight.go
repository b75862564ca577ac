package preflight

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"nodelet/internal/proc"
)

// DataVersion is the format of the data directory that this build writes. It
// grows when an older build could no longer read what a newer one left.
const DataVersion = 1

// minFree is the least space the data directory needs to start: etcd reserves
// 64 MB for each of two logs, and the project's own images need as much again.
const minFree = 512 << 20

// Port is a TCP port that must be free.
type Port struct {
	Number uint16
	// Use says what for; Flag moves it.
	Use, Flag string
}

// Config says what is going to be started.
type Config struct {
	DataDir     string
	VersionFile string
	Ports       []Port
	// Addresses that this machine must have.
	Addresses []netip.Addr
	// Programs that must be on PATH, and the Debian package each is in.
	Programs map[string]string
	// Files that must exist, and how they come to be.
	Files map[string]string
}

// Check gives everything that is wrong at once; nil means go.
func Check(c Config) error {
	errs := []error{root(), dataVersion(c), freeSpace(c.DataDir), cgroups()}
	for name, pkg := range c.Programs {
		errs = append(errs, program(name, pkg))
	}
	for path, how := range c.Files {
		if _, err := os.Stat(path); err != nil {
			errs = append(errs, fmt.Errorf("%s is not there: %s", path, how))
		}
	}
	for _, a := range c.Addresses {
		errs = append(errs, address(a))
	}
	for _, p := range c.Ports {
		errs = append(errs, port(p))
	}
	return errors.Join(errs...)
}

func root() error {
	if os.Geteuid() != 0 {
		return errors.New("not root: namespaces, firewall rules and containers need it; run with sudo")
	}
	return nil
}

func program(name, pkg string) error {
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("program %s is not on PATH: install it (Debian: apt-get install %s), or run make deps", name, pkg)
	}
	return nil
}

func address(want netip.Addr) error {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list the addresses of this machine: %w", err)
	}
	var has []string
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil:
		case p.Addr() == want:
			return nil
		case p.Addr().IsGlobalUnicast():
			has = append(has, p.Addr().String())
		}
	}
	return fmt.Errorf("this machine has not the address %s: choose one of %s with --node-ip, or add it to an interface", want, strings.Join(has, ", "))
}

func port(p Port) error {
	holders := proc.Listeners("tcp", p.Number)
	if len(holders) == 0 {
		return nil
	}
	h := holders[0]
	hint := "stop it, or use another port with " + p.Flag
	switch h.Program {
	case "kubelet":
		hint = "another kubelet runs on this machine: stop it (systemctl disable --now kubelet), or run only the proxy and DNS beside it: nodelet node --components=proxy,dns"
	case "kube-apiserver", "k3s", "k3s-server", "k0s":
		hint = "another Kubernetes runs on this machine: stop it, or use another port with " + p.Flag
	}
	return fmt.Errorf("port %d (%s) is in use on %s: %s", p.Number, p.Use, h, hint)
}

// dataVersion refuses what a newer build wrote: reading it wrongly could lose data.
func dataVersion(c Config) error {
	data, err := os.ReadFile(c.VersionFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read version of the data directory: %w", err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("%s holds %q, which is no number: if the directory is not nodelet's, choose another --data-dir; else write %d into it",
			c.VersionFile, strings.TrimSpace(string(data)), DataVersion)
	}
	if v > DataVersion {
		return fmt.Errorf("data directory %s has format %d, this build knows up to %d: install the newer nodelet that wrote it, or start afresh with another --data-dir",
			c.DataDir, v, DataVersion)
	}
	return nil
}

// WriteDataVersion marks the data directory as ours.
func WriteDataVersion(file string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(DataVersion)+"\n"), 0o644); err != nil {
		return fmt.Errorf("write version of the data directory: %w", err)
	}
	return nil
}

// freeSpace looks at the nearest directory that exists.
func freeSpace(dir string) error {
	for dir != "/" {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("read free space of %s: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < minFree {
		return fmt.Errorf("file system of %s has only %d MB free, at least %d MB are needed: make room or choose another --data-dir",
			dir, free>>20, minFree>>20)
	}
	return nil
}

func cgroups() error {
	for _, f := range []string{"/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/memory"} {
		if _, err := os.Stat(f); err == nil {
			return nil
		}
	}
	return errors.New("no cgroups are mounted on /sys/fs/cgroup: mount them (mount -t cgroup2 none /sys/fs/cgroup), or boot a system that does")
}
