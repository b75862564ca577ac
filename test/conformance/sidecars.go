package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// sidecars are upstream's programs beside a CSI driver, by the modules they are
// built from. These are the first releases that the module proxy has; the suite
// names ones that are some months older.
var sidecars = map[string]string{
	"csi-attacher":    "github.com/kubernetes-csi/external-attacher/v4@v4.12.0",
	"csi-provisioner": "github.com/kubernetes-csi/external-provisioner/v6@v6.3.0",
	"csi-resizer":     "github.com/kubernetes-csi/external-resizer/v2@v2.2.0",
}

// buildSidecars builds them as the modules say, each with its own go.mod and
// go.sum: they are not in those of this project.
func buildSidecars(ctx context.Context, o options, p programs) error {
	for name, module := range sidecars {
		p[name] = filepath.Join(o.cache, kubeVersion, name)
		if _, err := os.Stat(p[name]); err == nil {
			continue
		}
		source, err := moduleSource(ctx, module)
		if err != nil {
			return err
		}
		if err := goBuild(ctx, source, p[name], "build", "-mod=readonly", "./cmd/"+name); err != nil {
			return err
		}
	}
	p["csimock"] = filepath.Join(o.cache, kubeVersion, "csimock")
	return goBuild(ctx, "controlplane", p["csimock"], "build", "./conformance/csimock")
}

// moduleSource is the folder of a module in Go's cache.
func moduleSource(ctx context.Context, module string) (string, error) {
	c := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	c.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	out, err := c.Output()
	var got struct{ Dir, Error string }
	if parseErr := json.Unmarshal(out, &got); err == nil {
		err = parseErr
	}
	if err != nil || got.Dir == "" {
		return "", fmt.Errorf("download module %s: %w: %s", module, err, got.Error)
	}
	return got.Dir, nil
}

// hostpathplugin is its stand-in: with a port it joins the node with the driver
// in the suite, else it is the suite's mock driver itself.
const hostpathplugin = `#!/bin/sh
case "$*" in *-proxy-endpoint*) exec /socketproxy "$@" ;; esac
exec /csimock "$@"
`

// sidecarImages are the images of a driver and what stands beside it.
func sidecarImages(p programs) map[string]image {
	driver := map[string]string{"hostpathplugin!": hostpathplugin, "socketproxy*": p["socketproxy"]}
	if at, ok := p["csimock"]; ok {
		driver["csimock*"] = at
	}
	images := map[string]image{"hostpathplugin": {files: driver, entrypoint: []string{"/hostpathplugin"}}}
	for _, name := range []string{"csi-attacher", "csi-provisioner", "csi-resizer", "csi-node-driver-registrar"} {
		if program, ok := p[name]; ok {
			images[name] = image{files: map[string]string{name + "*": program}, entrypoint: []string{"/" + name}}
		}
	}
	return images
}
