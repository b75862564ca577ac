package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// debian are the packages of the machine with systemd, beside the essential ones.
var debian = []string{
	"systemd", "systemd-sysv", "dbus", "iproute2", "nftables", "iptables", "conntrack", "runc", "procps", "kmod", "util-linux",
	"iputils-ping", "curl",
}

const (
	debianSuite = "bookworm"
	// diskMB is the size of its disk; what is not used takes no space.
	diskMB = 6000
	// nodeletDir is where deploy/nodelet.service expects the programs.
	nodeletDir = "/usr/local/lib/nodelet"
)

// guestUnit starts the guest when the machine is up; its output is the serial line.
const guestUnit = `[Unit]
Description=test machine
After=multi-user.target
[Service]
Type=exec
ExecStart=/vm/guest
StandardOutput=tty
TTYPath=/dev/ttyS0
Environment=HOME=/root
[Install]
WantedBy=multi-user.target
`

// withSystemd runs suites that need systemd.
func (r *runner) withSystemd(k kernel, suites []suite) ([]result, error) {
	if len(suites) == 0 {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("make the file system of a machine with systemd: needs root")
	}
	p, err := r.load(suites, "")
	if err != nil {
		return nil, err
	}
	if err := p.product(); err != nil {
		return nil, err
	}
	disk := filepath.Join(r.cache, "disk.img")
	if err := r.disk(disk, k, p); err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(disk) }()
	first, err := r.load(nil, "/dev/vda")
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(r.cache, "systemd.cpio")
	if err := r.initramfs(initrd, k, first); err != nil {
		return nil, fmt.Errorf("write the first file system: %w", err)
	}
	return r.boot(machine{name: "systemd-" + k.version, kernel: k, initrd: initrd, disk: disk, memory: 3072})
}

// product adds what is installed on a machine: as the unit file says.
func (p payload) product() error {
	for _, name := range []string{"nodelet", "nodelet-cni", "nodelet-controlplane", "containerd-shim-runc-v2"} {
		file := filepath.Join("bin", name)
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("find %s: %w (make build makes it)", file, err)
		}
		p[filepath.Join(nodeletDir, name)] = source{path: file, mode: 0o755}
	}
	for _, name := range []string{"hello.tar", "busybox.tar"} {
		file := filepath.Join("bin/images", name)
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("find %s: %w (make images makes it)", file, err)
		}
		p["/vm/images/"+name] = source{path: file, mode: 0o644}
	}
	for at, file := range map[string]string{
		"/etc/systemd/system/nodelet.service": "deploy/nodelet.service",
		"/vm/allinone.conf":                   "deploy/allinone.conf",
		"/vm/hello.yaml":                      "examples/hello/hello.yaml",
		"/vm/client.yaml":                     "examples/hello/client.yaml",
	} {
		p[at] = source{path: file, mode: 0o644}
	}
	p["/etc/systemd/system/vm-guest.service"] = source{content: []byte(guestUnit), mode: 0o644}
	p["/etc/hostname"] = source{content: []byte("vm\n"), mode: 0o644}
	p["/etc/hosts"] = source{content: []byte("127.0.0.1 localhost\n10.77.0.1 vm\n"), mode: 0o644}
	p["/etc/resolv.conf"] = source{content: []byte("nameserver 10.77.0.254\n"), mode: 0o644}
	p["/etc/machine-id"] = source{content: []byte("3b8a9d0e4f7c4b6f8a5d2e1c0f9b8a7d\n"), mode: 0o444}
	return nil
}

// disk makes the image of a root file system: Debian's, the kernel's modules, the payload.
func (r *runner) disk(image string, k kernel, p payload) error {
	base, err := r.debian()
	if err != nil {
		return err
	}
	root, err := os.MkdirTemp(r.cache, "root-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(root) }()
	if err := r.command(root, "tar", "-xf", base, "--numeric-owner", "--exclude=./dev/*"); err != nil {
		return err
	}
	lib := filepath.Join(root, "usr/lib/modules")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		return err
	}
	if err := r.command(root, "cp", "-a", filepath.Join(k.dir, "lib/modules", k.release), lib); err != nil {
		return err
	}
	for _, at := range slices.Sorted(maps.Keys(p)) {
		content, err := p[at].read()
		if err != nil {
			return err
		}
		file := filepath.Join(root, at)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		_ = os.Remove(file)
		if err := os.WriteFile(file, content, p[at].mode); err != nil {
			return err
		}
	}
	wants := filepath.Join(root, "etc/systemd/system/multi-user.target.wants")
	if err := os.Symlink("/etc/systemd/system/vm-guest.service", filepath.Join(wants, "vm-guest.service")); err != nil {
		return err
	}
	// Nobody logs in; a getty would have the machine wait 90 s for a device that only udev tells of.
	if err := os.Symlink("/dev/null", filepath.Join(root, "etc/systemd/system/serial-getty@ttyS0.service")); err != nil {
		return err
	}
	_ = os.Remove(image)
	return r.command(root, "mke2fs", "-q", "-t", "ext4", "-d", ".", image, fmt.Sprintf("%dM", diskMB))
}

// debian gives the archive of the root file system, which is made once per list of packages.
func (r *runner) debian() (string, error) {
	digest := sha256.Sum256([]byte(debianSuite + strings.Join(debian, ",")))
	file := filepath.Join(r.cache, fmt.Sprintf("debian-%x.tar", digest[:4]))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	fmt.Println("make Debian's root file system (once, minutes)")
	tmp := file + ".new.tar"
	err := r.command(r.cache, "mmdebstrap", "--mode=root", "--variant=minbase", "--include="+strings.Join(debian, ","),
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		debianSuite, tmp)
	if err != nil {
		_ = os.Remove(tmp)
		return "", err
	}
	return file, os.Rename(tmp, file)
}
