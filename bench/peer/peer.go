package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
		out[name] = program{"peer/kubernetes", "k8s.io/kubernetes/cmd/" + name, Kubernetes,
			"-s -w -X k8s.io/component-base/version.gitVersion=" + Kubernetes + " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"}
	}
	return out
}

// Build builds what is not there yet and gives the directory and the versions.
func Build(ctx context.Context, names []string, building func(name string)) (dir string, versions map[string]string, err error) {
	bench, err := module()
	if err != nil {
		return "", nil, err
	}
	dir, versions = filepath.Join(bench, ".cache", "peers"), map[string]string{}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		p, ok := programs()[name]
		if !ok {
			return "", nil, fmt.Errorf("build %s: it is no known peer", name)
		}
		versions[name] = p.version
		target := filepath.Join(dir, name+"-"+p.version)
		if _, err := os.Stat(target); err != nil {
			building(name)
			if err := p.build(ctx, bench, target); err != nil {
				return "", nil, fmt.Errorf("build %s: %w", name, err)
			}
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
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false")
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
