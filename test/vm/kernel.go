package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A kernel is unpacked below .cache/vm/kernels/<version>: vmlinuz and lib/modules/<release>.
type kernel struct {
	version string // as asked for: "6.12"
	release string // as it calls itself
	dir     string
}

func (k kernel) image() string { return filepath.Join(k.dir, "vmlinuz") }

// modules are the directories of modules worth taking along, below "kernel".
var modules = []string{
	"net", "lib", "crypto", "arch/x86/crypto", "fs/overlayfs", "fs/ext4", "fs/jbd2", "fs/fuse", "drivers/virtio",
	"drivers/block/virtio_blk", "drivers/net/veth", "drivers/net/dummy", "drivers/net/vxlan", "drivers/net/tun",
	"drivers/net/ifb", "drivers/net/macvlan", "drivers/net/wireguard", "drivers/net/netkit", "drivers/net/virtio_net",
}

// notHere are directories below those that no test machine needs.
var notHere = []string{"net/wireless", "net/mac80211", "net/bluetooth", "net/nfc", "net/can", "net/sunrpc", "net/ceph", "net/9p", "net/batman-adv"}

// kernel finds a kernel in the cache or in the distribution's packages.
func (r *runner) kernel(version string) (kernel, error) {
	k := kernel{version: version, dir: filepath.Join(r.cache, "kernels", version)}
	if _, err := os.Stat(k.image()); err != nil {
		if err := r.obtain(k); err != nil {
			return k, err
		}
	}
	found, err := filepath.Glob(filepath.Join(k.dir, "lib/modules/*"))
	if err != nil || len(found) != 1 {
		return k, fmt.Errorf("look for modules: %d directories in %s/lib/modules, want one; remove %s to have it made anew", len(found), k.dir, k.dir)
	}
	k.release = filepath.Base(found[0])
	return k, nil
}

// obtain downloads the newest package of a version and unpacks what is needed of it.
func (r *runner) obtain(k kernel) error {
	packages, err := r.packages(k.version)
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		return fmt.Errorf("no package source of this machine has a kernel %s; put vmlinuz and lib/modules/<release> of one into %s", k.version, k.dir)
	}
	if err := os.MkdirAll(filepath.Dir(k.dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(k.dir), "new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	for _, p := range packages[:min(3, len(packages))] {
		if err = r.unpack(tmp, p); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := r.reduce(tmp, k.dir); err != nil {
		_ = os.RemoveAll(k.dir)
		return fmt.Errorf("unpack kernel %s: %w", k.version, err)
	}
	return nil
}

// packages lists the kernel packages of a version, newest first, those for
// virtual machines before others.
func (r *runner) packages(version string) ([]string, error) {
	pattern := `^linux-image-(unsigned-)?` + regexp.QuoteMeta(version) + `[.-][0-9].*-(cloud-amd64|generic)$`
	out, err := exec.CommandContext(r.ctx, "apt-cache", "search", "--names-only", pattern).Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("kernels come from Debian's or Ubuntu's packages, and there is no apt-cache here")
	}
	if err != nil {
		return nil, fmt.Errorf("search for kernel packages: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, " ")
		found = append(found, name)
	}
	slices.SortFunc(found, func(a, b string) int { return -slices.Compare(numbers(a), numbers(b)) })
	return found, nil
}

// numbers are those in a text, in order: versions compare by them.
func numbers(s string) (out []int) {
	for _, digits := range strings.FieldsFunc(s, func(c rune) bool { return c < '0' || c > '9' }) {
		n, _ := strconv.Atoi(digits) // digits only; too large ones sort first
		out = append(out, n)
	}
	return out
}

// unpack downloads a kernel package, and the one with its modules where that is another.
func (r *runner) unpack(dir, name string) error {
	fmt.Printf("download %s\n", name)
	wanted := []string{name}
	if release, ok := strings.CutSuffix(strings.TrimPrefix(strings.TrimPrefix(name, "linux-image-"), "unsigned-"), "-generic"); ok {
		wanted = append(wanted, "linux-modules-"+release+"-generic", "linux-modules-extra-"+release+"-generic")
	}
	if err := r.command(dir, "apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=root", "download"}, wanted...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if err := errors.Join(r.command(dir, "dpkg", "-x", deb, dir), os.Remove(deb)); err != nil {
			return err
		}
	}
	return nil
}

// reduce moves the kernel and the modules worth having to where they are kept,
// not compressed, with their dependencies worked out.
func (r *runner) reduce(from, to string) error {
	images, err := filepath.Glob(filepath.Join(from, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return fmt.Errorf("look for the kernel: %d files in boot, want one", len(images))
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	src, err := filepath.EvalSymlinks(filepath.Join(from, "lib/modules", release))
	if err != nil {
		if src, err = filepath.EvalSymlinks(filepath.Join(from, "usr/lib/modules", release)); err != nil {
			return err
		}
	}
	dst := filepath.Join(to, "lib/modules", release)
	for _, dir := range notHere {
		if err := os.RemoveAll(filepath.Join(src, "kernel", dir)); err != nil {
			return err
		}
	}
	wanted := []string{"modules.builtin", "modules.builtin.modinfo", "modules.order"}
	for _, m := range modules {
		found, err := filepath.Glob(filepath.Join(src, "kernel", m+"*"))
		if err != nil {
			return err
		}
		for _, f := range found {
			if rel, _ := filepath.Rel(src, f); rel == "kernel/"+m || strings.HasPrefix(rel, "kernel/"+m+".ko") {
				wanted = append(wanted, rel)
			}
		}
	}
	for _, w := range wanted {
		at := filepath.Join(dst, w)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(src, w), at); err != nil {
			return err
		}
	}
	for suffix, tool := range map[string][]string{"*.ko.xz": {"xz", "-d"}, "*.ko.zst": {"zstd", "-q", "-d", "--rm"}} {
		args := append([]string{dst, "-name", suffix, "-exec"}, append(tool, "{}", "+")...)
		if err := r.command(to, "find", args...); err != nil {
			return err
		}
	}
	if err := r.command(to, "depmod", "-b", to, release); err != nil {
		return err
	}
	// The kernel comes last: what lies there with it is whole.
	return os.Rename(images[0], filepath.Join(to, "vmlinuz"))
}

// command runs a program quietly; its output is in the error.
func (r *runner) command(dir, name string, args ...string) error {
	cmd := exec.CommandContext(r.ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
