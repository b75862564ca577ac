package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"nodelet/cri/embedded/pause"
)

// onRequest are built only when they are named: they need more than Go.
var onRequest = map[string]bool{
	"nodelet": true, // the built programs
}

// catalog is what can be built. An image is a few lines: files, and what the container runs.
var catalog = map[string]func(arch string) (spec, error){
	"pause": func(arch string) (spec, error) {
		program, err := pause.Program(arch)
		return spec{
			name: "nodelet.local/pause:1", arch: arch,
			files:      []file{{path: "pause", mode: 0o755, data: program}},
			entrypoint: []string{"/pause"},
			user:       "65535:65535", // nobody, as in upstream's
		}, err
	},
	"hello": func(arch string) (spec, error) {
		program, err := goProgram("./examples/hello", arch)
		return spec{
			name: "nodelet.local/hello:1", arch: arch,
			files:      []file{{path: "hello", mode: 0o755, data: program}},
			entrypoint: []string{"/hello"},
			user:       "65534:65534",
		}, err
	},
	"busybox": func(arch string) (spec, error) {
		files, err := busybox(arch)
		return spec{
			name: "nodelet.local/busybox:1", arch: arch,
			files:   files,
			command: []string{"/bin/sh"},
			env:     []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		}, err
	},
	"nodelet": func(arch string) (spec, error) {
		files, err := programs(arch, "nodelet", "nodelet-cni")
		return spec{
			name: "nodelet.local/nodelet:1", arch: arch,
			files:      append(files, file{path: "tmp/", mode: 0o777, sticky: true}),
			entrypoint: []string{"/usr/bin/nodelet"},
			command:    []string{"node"},
			env:        []string{"PATH=/usr/bin"},
		}, err
	},
}

// programs are those that `make build` left in bin/.
func programs(arch string, names ...string) ([]file, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	var files []file
	for _, name := range names {
		path := filepath.Join(root, "bin", name)
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("take a built program: %w: make build", err)
		}
		if err := checkStatic(data, arch); err != nil {
			return nil, fmt.Errorf("take %s: %w", path, err)
		}
		files = append(files, file{path: "usr/bin/" + name, mode: 0o755, data: data})
	}
	return files, nil
}

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// goProgram builds a static program of this module.
func goProgram(pkg, arch string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "images-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, "program")
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-tags=netgo,osusergo", "-o", out, pkg)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOOS=linux", "GOARCH="+arch)
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", pkg, err, output)
	}
	return os.ReadFile(out)
}

// busybox takes Debian's busybox-static from the host, with a link for each applet.
func busybox(arch string) ([]file, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, errors.New("busybox is not installed: apt-get install busybox-static")
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read busybox: %w", err)
	}
	if err := checkStatic(program, arch); err != nil {
		return nil, fmt.Errorf("take %s: %w: apt-get install busybox-static", path, err)
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	files := []file{
		{path: "bin/busybox", mode: 0o755, data: program},
		{path: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{path: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{path: "root/", mode: 0o700},
		{path: "tmp/", mode: 0o777, sticky: true},
	}
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			files = append(files, file{path: "bin/" + applet, link: "busybox"})
		}
	}
	return files, nil
}

func checkStatic(program []byte, arch string) error {
	binary, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return err
	}
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; binary.Machine != want {
		return fmt.Errorf("it is built for %s, not for %s", binary.Machine, arch)
	}
	for _, segment := range binary.Progs {
		if segment.Type == elf.PT_INTERP {
			return errors.New("it is not static")
		}
	}
	return nil
}
