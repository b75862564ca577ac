package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// kubeVersion is what the suite and agnhost report themselves to be.
const kubeVersion = "v1.36.3"

// programs are the paths of what was built.
type programs map[string]string

// sources are the packages of the control plane's module that programs are
// built from.
var sources = map[string]string{
	"ginkgo":           "github.com/onsi/ginkgo/v2/ginkgo",
	"agnhost":          "k8s.io/kubernetes/test/images/agnhost",
	"nnp":              "k8s.io/kubernetes/test/images/nonewprivs",
	"sample-apiserver": "k8s.io/sample-apiserver",
	"etcd":             "go.etcd.io/etcd/server/v3",
}

// own are programs of this repository, by their folders.
var own = map[string]string{"socketproxy": "socketproxy", "csi-node-driver-registrar": "registrar"}

// buildPrograms builds what is not in the cache yet. Go's own cache makes a
// second run of go build cheap, but the suite alone takes it half a minute to
// look at.
func buildPrograms(ctx context.Context, o options) (programs, error) {
	dir := filepath.Join(o.cache, kubeVersion)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	p := programs{"e2e.test": filepath.Join(dir, "e2e.test")}
	if err := goBuild(ctx, "controlplane", p["e2e.test"], "test", "-c", "-vet=off", "k8s.io/kubernetes/test/e2e"); err != nil {
		return nil, err
	}
	for name, source := range sources {
		p[name] = filepath.Join(dir, name)
		if err := goBuild(ctx, "controlplane", p[name], "build", source); err != nil {
			return nil, err
		}
	}
	if o.coredns {
		p["coredns"] = filepath.Join(dir, "coredns")
		if err := goBuild(ctx, "bench/peer/coredns", p["coredns"], "build", "."); err != nil {
			return nil, err
		}
	}
	if o.csi {
		if err := buildSidecars(ctx, o, p); err != nil {
			return nil, err
		}
	}
	for name, source := range own {
		p[name] = filepath.Join(dir, name)
		if err := command(ctx, "env", "CGO_ENABLED=0", "GOWORK=off", "go", "build", "-trimpath", "-ldflags=-s -w", "-o", p[name], "./test/conformance/"+source); err != nil {
			return nil, err
		}
	}
	// kubectl is the control plane's program under another name.
	p["kubectl"] = filepath.Join(dir, "kubectl")
	_ = os.Remove(p["kubectl"])
	return p, os.Symlink(filepath.Join(o.bin, "nodelet-controlplane"), p["kubectl"])
}

// goBuild runs a go command whose last argument is a package of a module and that takes -o.
func goBuild(ctx context.Context, module, out string, args ...string) error {
	if _, err := os.Stat(out); err == nil {
		return nil
	}
	fmt.Printf("build %s (minutes on the first run)\n", filepath.Base(out))
	begin, v := time.Now(), "k8s.io/component-base/version."
	flags := []string{"-trimpath", "-o", out + ".tmp", "-ldflags",
		"-s -w -X " + v + "gitVersion=" + kubeVersion + " -X " + v + "gitMajor=1 -X " + v + "gitMinor=36"}
	args = append(args[:len(args)-1:len(args)-1], append(flags, args[len(args)-1])...)
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = module
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", filepath.Base(out), err, text)
	}
	fmt.Printf("built %s in %s\n", filepath.Base(out), time.Since(begin).Round(time.Second))
	return os.Rename(out+".tmp", out) // whole or not there
}
