package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// programs of the host that tests call, or look at when they fail.
var programs = []string{
	"nft", "iptables", "ip6tables", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore",
	"iptables-nft", "ip6tables-nft", "iptables-nft-save", "ip6tables-nft-save", "iptables-nft-restore", "ip6tables-nft-restore",
	"iptables-legacy", "ip6tables-legacy", "iptables-legacy-save", "ip6tables-legacy-save", "iptables-legacy-restore",
	"ip6tables-legacy-restore", "conntrack", "ip", "sysctl", "modprobe", "dig",
}

// initramfs writes the first file system of a machine: the programs, a
// busybox for the rest, the kernel's modules and the payload.
func (r *runner) initramfs(file string, k kernel, p payload) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	c := newCPIO(w)
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		c.Link("/"+dir, "usr/"+dir)
	}
	c.Dir("/root")
	c.Link("/var/run", "/run")
	c.Link("/etc/mtab", "/proc/mounts")
	c.File("/etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"))
	c.File("/etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	c.File("/etc/hosts", 0o644, []byte("127.0.0.1 localhost vm\n::1 localhost\n"))
	// nft prints protocols by their names.
	for _, file := range []string{"/etc/protocols", "/etc/services"} {
		if err := addFile(c, file); err != nil {
			return err
		}
	}
	for _, name := range programs {
		if err := addProgram(c, name); err != nil {
			return err
		}
	}
	if err := addBusybox(c); err != nil {
		return err
	}
	found, err := filepath.Glob("/usr/lib/*-linux-gnu/xtables")
	if err != nil {
		return err
	}
	for _, dir := range append(found, "/etc/iproute2") {
		if err := addTree(c, dir, dir); err != nil {
			return err
		}
	}
	if err := addTree(c, "/usr/lib/modules/"+k.release, filepath.Join(k.dir, "lib/modules", k.release)); err != nil {
		return err
	}
	for _, at := range slices.Sorted(maps.Keys(p)) {
		content, err := p[at].read()
		if err != nil {
			return err
		}
		c.File(at, p[at].mode, content)
	}
	c.Link("/init", "/vm/guest")
	if err := c.Close(); err != nil {
		return err
	}
	return w.Flush()
}

var library = regexp.MustCompile(`(/\S+) \(0x`)

// addProgram adds a program and the libraries it is linked with. One that is
// not on this machine is left out: tests say what they miss.
func addProgram(c *cpio, name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil
	}
	if err := addFile(c, path); err != nil {
		return err
	}
	out, err := exec.Command("ldd", path).CombinedOutput()
	if err != nil {
		return nil // static
	}
	for _, m := range library.FindAllStringSubmatch(string(out), -1) {
		if err := addFile(c, m[1]); err != nil {
			return err
		}
	}
	return nil
}

// addFile adds a file of the host where it is there, through the links that lead to it.
func addFile(c *cpio, path string) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if path = merged(path); target != path {
		c.Link(path, target)
	}
	content, err := os.ReadFile(target)
	if err != nil {
		return err
	}
	c.File(target, 0o755, content)
	return nil
}

// merged is a path with /bin, /sbin and /lib where they are since the /usr merge.
func merged(path string) string {
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(path, dir) {
			return "/usr" + path
		}
	}
	return path
}

func addBusybox(c *cpio) error {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("find busybox: %w (hack/deps.sh vm installs it)", err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		return fmt.Errorf("list busybox' applets: %w", err)
	}
	c.File("/usr/bin/busybox", 0o755, content)
	for _, name := range strings.Fields(string(applets)) {
		// What the host has a program of its own for is in /usr/sbin or was added before.
		c.Link("/usr/bin/"+name, "busybox")
	}
	return nil
}

// addTree adds the files below a directory.
func addTree(c *cpio, at, dir string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		c.File(filepath.Join(at, rel), 0o644, content)
		return err
	})
}
