package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// The versions of the peers; those in the go.mod files are the same.
const (
	Kubernetes = "v1.36.3"
	etcd       = "v3.6.16"
	coreDNS    = "v1.15.0"
)

// program is how one peer is built.
type program struct {
	// dir is the module, below bench/.
	dir, pkg, version, ldflags string
}

func programs() map[string]program {
	out := map[string]program{
		"etcd":    {"peer/kubernetes", "go.etcd.io/etcd/server/v3", etcd, "-s -w"},
		"coredns": {".", "nodelet/bench/peer/coredns", coreDNS, "-s -w"},
	}
	for _, name := range []string{"kubelet", "kube-proxy", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		out[name] = ofKubernetes(name, Kubernetes)
	}
	return out
}

func ofKubernetes(name, version string) program {
	_, minor, _ := strings.Cut(version, ".")
	minor, _, _ = strings.Cut(minor, ".")
	return program{"peer/kubernetes", "k8s.io/kubernetes/cmd/" + name, version,
		"-s -w -X k8s.io/component-base/version.gitVersion=" + version +
			" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=" + minor}
}

// At names a program of Kubernetes in another version than the usual one.
func At(name, version string) string { return name + "@" + version }

// File is the file name of a program of a version, in the directory that Build gives.
func File(name, version string) string { return name + "-" + version }

// find gives a program by its name, or by that of At.
func find(ctx context.Context, bench, name string) (program, error) {
	name, version, other := strings.Cut(name, "@")
	p, ok := programs()[name]
	if !ok {
		return program{}, fmt.Errorf("build %s: it is no known peer", name)
	}
	if !other || version == p.version {
		return p, nil
	}
	p = ofKubernetes(name, version)
	dir, err := otherModule(ctx, bench, version)
	p.dir = dir
	return p, err
}

// Build builds what is not there yet and gives the directory and the versions.
func Build(ctx context.Context, names []string, building func(name string)) (dir string, versions map[string]string, err error) {
	bench, err := module()
	if err != nil {
		return "", nil, err
	}
	dir, versions = filepath.Join(bench, ".cache", "peers"), map[string]string{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		p, err := find(ctx, bench, name)
		if err != nil {
			return "", nil, err
		}
		versions[name] = p.version
		name, _, other := strings.Cut(name, "@")
		target := filepath.Join(dir, File(name, p.version))
		if _, err := os.Stat(target); err != nil {
			building(name)
			if err := p.build(ctx, bench, target); err != nil {
				return "", nil, fmt.Errorf("build %s: %w", name, err)
			}
		}
		if other {
			continue
		}
		link := filepath.Join(dir, name)
		_ = os.Remove(link) // it may be of another version
		if err := os.Symlink(filepath.Base(target), link); err != nil {
			return "", nil, fmt.Errorf("build %s: %w", name, err)
		}
	}
	return dir, versions, nil
}

// build writes beside the target first, so that an interrupted build is none.
func (p program) build(ctx context.Context, bench, target string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", p.ldflags, "-o", target+".new", p.pkg)
	cmd.Dir = filepath.Join(bench, p.dir)
	cmd.Env = append(os.Environ(), environment(p.dir)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return os.Rename(target+".new", target)
}

// module is the directory of the bench module: here, above, or in bench/.
func module() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the bench module: %w", err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		for _, at := range []string{dir, filepath.Join(dir, "bench")} {
			if _, err := os.Stat(filepath.Join(at, "peer", "kubernetes", "go.mod")); err == nil {
				return at, nil
			}
		}
	}
	return "", errors.New("find the bench module: no bench/ here or above")
}
