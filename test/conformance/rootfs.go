package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// basePackages are what the suite's commands inside containers need. Upstream's
// images are Alpine with the same tools. bash is the shell: Debian's dash and
// busybox' sh drop environment names with a dash in them, which specs use.
var basePackages = []string{
	"bash", "coreutils", "grep", "sed", "findutils", "hostname", "procps", "mount", "util-linux",
	"bind9-dnsutils", "curl", "netcat-openbsd", "iproute2", "iperf", "libc-bin", "perl-base", "nginx-light",
}

// debianRoot unpacks packages with everything they depend on into dir, without
// installing anything on this machine.
func debianRoot(ctx context.Context, dir, cache string) error {
	debs := filepath.Join(cache, "debs")
	if err := os.MkdirAll(filepath.Join(debs, "partial"), 0o755); err != nil {
		return err
	}
	// An empty status file makes apt fetch what this machine already has, too.
	status := filepath.Join(cache, "apt-status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return err
	}
	args := append([]string{"install", "--yes", "--download-only", "--no-install-recommends",
		"-o", "Debug::NoLocking=1", "-o", "Dir::State::status=" + status, "-o", "Dir::Cache::archives=" + debs}, basePackages...)
	if err := command(ctx, "apt-get", args...); err != nil {
		return fmt.Errorf("download Debian packages for images: %w", err)
	}
	// Debian's packages still name /bin and the like; they are links into /usr.
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "usr", name), 0o755),
			os.Symlink("usr/"+name, filepath.Join(dir, name))); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := unpack(ctx, f, dir); err != nil {
			return err
		}
	}
	return finishRoot(dir)
}

// unpack is dpkg -x, but leaves links to folders as they are.
func unpack(ctx context.Context, deb, dir string) error {
	read := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	write := exec.CommandContext(ctx, "tar", "-x", "--keep-directory-symlink", "-C", dir)
	pipe, err := read.StdoutPipe()
	if err != nil {
		return err
	}
	write.Stdin = pipe
	if err := read.Start(); err != nil {
		return fmt.Errorf("unpack %s: %w", deb, err)
	}
	text, err := write.CombinedOutput()
	if err := errors.Join(err, read.Wait()); err != nil {
		return fmt.Errorf("unpack %s: %w\n%s", deb, err, bytes.TrimSpace(text))
	}
	return nil
}

// finishRoot does what the packages' scripts would have done.
func finishRoot(dir string) error {
	for _, unwanted := range []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache", "var/lib/dpkg"} {
		if err := os.RemoveAll(filepath.Join(dir, unwanted)); err != nil {
			return err
		}
	}
	return writeTree(dir, map[string]string{
		"usr/bin/sh ->":          "bash",
		"usr/bin/nc ->":          "nc.openbsd",
		"usr/local/bin/iperf ->": "/usr/bin/iperf",
		"etc/passwd":             passwd,
		"etc/group":              group,
		"tmp/":                   "1777",
		"var/tmp/":               "1777",
		"var/log/nginx/":         "755",
		"var/lib/nginx/":         "755",
		"etc/nginx/nginx.conf":   nginxConf,
		"usr/share/nginx/html/index.html": "<!DOCTYPE html><html><head><title>Welcome to nginx!</title></head>" +
			"<body><h1>Welcome to nginx!</h1></body></html>\n",
	})
}

// The two extra names are what specs of agnhost's image look for.
const passwd = `root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/false
user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
`

const group = `root:x:0:
www-data:x:33:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
nogroup:x:65534:
`

const nginxConf = `user root;
worker_processes 1;
error_log stderr notice;
pid /tmp/nginx.pid;
events { worker_connections 256; }
http {
  include /etc/nginx/mime.types;
  access_log /dev/stdout;
  server {
    listen 80;
    location / { root /usr/share/nginx/html; index index.html; }
  }
}
`

// writeTree writes files by path. A path that ends in "/" is a folder and its
// value the mode, one that ends in "->" a link and its value the target, one
// that ends in "*" a program and its value the path it is copied from, one that
// ends in "!" a script.
func writeTree(dir string, files map[string]string) error {
	for path, value := range files {
		name, kind, _ := strings.Cut(path, " ")
		full := filepath.Join(dir, strings.TrimRight(name, "*!"))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := writeOne(full, name+kind, value); err != nil {
			return fmt.Errorf("write %s: %w", full, err)
		}
	}
	return nil
}

func writeOne(full, kind, value string) error {
	switch {
	case strings.HasSuffix(kind, "/"):
		if err := os.MkdirAll(full, 0o755); err != nil {
			return err
		}
		return command(context.Background(), "chmod", value, full)
	case strings.HasSuffix(kind, "->"):
		if err := os.RemoveAll(full); err != nil {
			return err
		}
		return os.Symlink(value, full)
	case strings.HasSuffix(kind, "!"):
		return os.WriteFile(full, []byte(value), 0o755)
	case strings.HasSuffix(kind, "*"):
		data, err := os.ReadFile(value)
		if err != nil {
			return err
		}
		return os.WriteFile(full, data, 0o755)
	}
	if err := os.RemoveAll(full); err != nil { // it may be a link out of dir
		return err
	}
	return os.WriteFile(full, []byte(value), 0o644)
}

// command runs a program and shows what it said only if it fails.
func command(ctx context.Context, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", name, err, bytes.TrimSpace(text))
	}
	return nil
}
