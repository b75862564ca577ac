package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// generated are the modules of other versions, below bench/. They are made, and not a part of the project: the
// sums of what they download come with the first build.
const generated = ".cache/peers/modules"

func environment(dir string) []string {
	flags := "-trimpath -buildvcs=false"
	if strings.HasPrefix(dir, generated) {
		flags += " -mod=mod"
	}
	return []string{"GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=" + flags}
}

var (
	moduleLine = regexp.MustCompile(`(?m)^module .*$`)
	staging    = regexp.MustCompile(`=> \./staging/src/(k8s\.io/\S+)`)
)

// otherModule makes the module that builds another version of Kubernetes, and gives its directory below
// bench/. It is that version's own go.mod, with the published staging modules.
func otherModule(ctx context.Context, bench, version string) (string, error) {
	dir := filepath.Join(generated, version)
	if _, err := os.Stat(filepath.Join(bench, dir, "go.mod")); err == nil {
		return dir, nil
	}
	const kubernetes = "k8s.io/kubernetes"
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", kubernetes+"@"+version)
	cmd.Dir, cmd.Env = bench, append(os.Environ(), environment(dir)...)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download %s %s: %w: %s", kubernetes, version, err, out)
	}
	var module struct{ GoMod string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", fmt.Errorf("download %s %s: %w", kubernetes, version, err)
	}
	text, err := os.ReadFile(module.GoMod)
	if err != nil {
		return "", fmt.Errorf("read the module of %s %s: %w", kubernetes, version, err)
	}
	if err := os.MkdirAll(filepath.Join(bench, dir), 0o755); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	file := filepath.Join(bench, dir, "go.mod")
	return dir, os.WriteFile(file, []byte(published(string(text), version)+"require "+kubernetes+" "+version+"\n"), 0o644)
}

// published is the go.mod of Kubernetes with the staging modules of its version, v0.36.3 for v1.36.3.
func published(text, version string) string {
	text = moduleLine.ReplaceAllString(text, "module peers")
	return staging.ReplaceAllString(text, "=> $1 v0."+strings.TrimPrefix(version, "v1."))
}
