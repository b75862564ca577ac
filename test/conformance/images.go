package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"nodelet/cri/embedded/pause"
)

// image is one of the suite's images: the common root file system and what is
// put on top of it.
type image struct {
	bare       bool // without the common root file system
	files      map[string]string
	setuid     string
	entrypoint []string
	command    []string
	user       string
}

// catalog says how to make the images that the suite names, by the last part of
// their repository. Versions are the suite's.
func catalog(p programs, source string) map[string]image {
	agnhost := image{
		files: map[string]string{
			"agnhost*": p["agnhost"], "agnhost-2 ->": "agnhost", "uploads/": "755", "var/registry/": "755",
			"localhost.crt*": source + "/agnhost/porter/localhost.crt", "localhost.key*": source + "/agnhost/porter/localhost.key",
		},
		entrypoint: []string{"/agnhost"}, command: []string{"pause"},
	}
	if at, ok := p["coredns"]; ok {
		agnhost.files["coredns*"] = at
	}
	nginx := image{command: []string{"nginx", "-g", "daemon off;"}}
	images := sidecarImages(p)
	maps.Copy(images, map[string]image{
		"agnhost":           agnhost,
		"kitten":            agnhost.serving(source+"/kitten/html", "kitten.jpg"),
		"nautilus":          agnhost.serving(source+"/nautilus/html", "nautilus.jpg"),
		"glibc-dns-testing": {command: []string{"bash"}},
		"busybox":           {files: applets(), command: []string{"sh"}},
		"nginx":             nginx,
		"nginx-new":         nginx,
		"perl":              {command: []string{"perl", "-de0"}},
		"ipc-utils":         {command: []string{"sh"}},
		"nonroot":           {command: []string{"bash"}, user: "1234"},
		"nonewprivs":        {files: map[string]string{"usr/local/bin/nnp*": p["nnp"]}, setuid: "usr/local/bin/nnp", command: []string{"nnp"}},
		"sample-apiserver":  {files: map[string]string{"sample-apiserver*": p["sample-apiserver"]}, entrypoint: []string{"/sample-apiserver"}},
		"etcd":              {files: map[string]string{"usr/local/bin/etcd*": p["etcd"]}, command: []string{"etcd"}},
		"pause":             {bare: true, files: map[string]string{"pause*": p["pause"]}, entrypoint: []string{"/pause"}, user: "65535:65535"},
	})
	return images
}

// serving is agnhost's image with files for its web server.
func (i image) serving(dir, picture string) image {
	files := map[string]string{
		"data.json*": dir + "/data.json", picture + "*": dir + "/" + picture,
		// The image volume spec reads this marker.
		"etc/os-release": "PRETTY_NAME=\"Alpine Linux v3.21\"\nNAME=\"Alpine Linux\"\nID=alpine\n",
	}
	for path, from := range i.files {
		files[path] = from
	}
	return image{files: files, entrypoint: i.entrypoint, command: []string{"test-webserver"}}
}

// busyboxShell: specs compare the words of busybox' shell, and others want
// environment names in a child that it drops and bash does not.
const busyboxShell = `#!/bin/bash
while IFS= read -r -d '' pair; do
  case ${pair%%=*} in *[!A-Za-z0-9_]*) exec -a "$0" /bin/bash "$@" ;; esac
done </proc/self/environ
exec -a "$0" /usr/bin/busybox "$@"
`

// applets are busybox' own programs in front of Debian's.
func applets() map[string]string {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil // buildImages says so
	}
	files := map[string]string{"usr/bin/busybox*": path, "usr/bin/sh!": busyboxShell}
	list, _ := exec.Command(path, "--list").Output()
	for applet := range strings.FieldsSeq(string(list)) {
		if !slices.Contains([]string{"busybox", "sh", "ash", "bash"}, applet) {
			files["usr/bin/"+applet+" ->"] = "busybox"
		}
	}
	return files
}

// buildImages makes one archive with all images, whose layers it holds once. It
// is made anew when other images are wanted, in a folder of its own, for nodes
// import all archives of a folder.
func buildImages(ctx context.Context, o options, p programs) (archive string, err error) {
	all := filepath.Join(o.cache, "images")
	dir := filepath.Join(all, fmt.Sprintf("%.6x", sha256.Sum256(fmt.Append(nil, catalog(p, "")))))
	archive = filepath.Join(dir, "conformance.tar")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	if err := os.RemoveAll(all); err != nil { // what was wanted before
		return "", fmt.Errorf("remove images: %w", err)
	}
	if _, err := exec.LookPath("busybox"); err != nil {
		return "", fmt.Errorf("find busybox: %w: run make deps", err)
	}
	fmt.Println("build images")
	work, err := os.MkdirTemp(o.cache, "work-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if p["pause"], err = pauseProgram(work); err != nil {
		return "", err
	}
	root := filepath.Join(work, "root")
	if err := debianRoot(ctx, root, o.cache); err != nil {
		return "", err
	}
	base, err := layer(ctx, root)
	if err != nil {
		return "", err
	}
	images, err := assemble(ctx, p, base, work)
	if err != nil {
		return "", err
	}
	if err := tarball.MultiRefWriteToFile(archive+".tmp", images); err != nil {
		return "", fmt.Errorf("write image archive: %w", err)
	}
	return archive, os.Rename(archive+".tmp", archive)
}

func assemble(ctx context.Context, p programs, base v1.Layer, work string) (map[name.Reference]v1.Image, error) {
	source, err := imageSources(ctx)
	if err != nil {
		return nil, err
	}
	wanted, err := listImages(ctx, p)
	if err != nil {
		return nil, err
	}
	all := catalog(p, source)
	pause, err := all["pause"].make(ctx, base, filepath.Join(work, "pause-to-pull"))
	if err != nil {
		return nil, fmt.Errorf("build image pause: %w", err)
	}
	registry, err := fakeRegistry(pause, "pause", "testing")
	if err != nil {
		return nil, fmt.Errorf("fill the registry of agnhost: %w", err)
	}
	maps.Copy(all["agnhost"].files, registry)
	images := map[name.Reference]v1.Image{}
	for key, i := range all {
		made, err := i.make(ctx, base, filepath.Join(work, key))
		if err != nil {
			return nil, fmt.Errorf("build image %s: %w", key, err)
		}
		for _, ref := range wanted[key] {
			images[ref] = made
		}
		delete(wanted, key)
	}
	if len(wanted) > 0 {
		missing := slices.Sorted(maps.Keys(wanted))
		fmt.Printf("images not built, specs that use them fail: %s\n", strings.Join(missing, " "))
	}
	return images, nil
}

func (i image) make(ctx context.Context, base v1.Layer, dir string) (v1.Image, error) {
	img := empty.Image
	var err error
	if !i.bare {
		if img, err = mutate.AppendLayers(img, base); err != nil {
			return nil, err
		}
	}
	if len(i.files) > 0 {
		if err := writeTree(dir, i.files); err != nil {
			return nil, err
		}
		if i.setuid != "" {
			if err := os.Chmod(filepath.Join(dir, i.setuid), 0o755|os.ModeSetuid); err != nil {
				return nil, err
			}
		}
		own, err := layer(ctx, dir)
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, own); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{
		Entrypoint: i.entrypoint, Cmd: i.command, User: i.user, WorkingDir: "/",
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	return mutate.ConfigFile(img, config)
}

// layer packs a folder as root's, whoever builds.
func layer(ctx context.Context, dir string) (v1.Layer, error) {
	out := dir + ".tar"
	err := command(ctx, "tar", "-C", dir, "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-cf", out, ".")
	if err != nil {
		return nil, err
	}
	return tarball.LayerFromFile(out)
}

// listImages asks the suite for its images, by the last part of the repository.
func listImages(ctx context.Context, p programs) (map[string][]name.Reference, error) {
	out, err := exec.CommandContext(ctx, p["e2e.test"], "--list-images").Output()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	found := map[string][]name.Reference{}
	for line := range strings.FieldsSeq(string(out)) {
		ref, err := name.NewTag(line)
		if err != nil {
			continue // a deliberately bad one
		}
		if strings.HasPrefix(line, "invalid.") || strings.HasPrefix(line, "gcr.io/k8s-authenticated-test/") {
			continue // specs want them not to be there
		}
		key := ref.RepositoryStr()[strings.LastIndex(ref.RepositoryStr(), "/")+1:]
		found[key] = append(found[key], ref)
	}
	return found, nil
}

// imageSources is where upstream keeps the files of its images.
func imageSources(ctx context.Context) (string, error) {
	c := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
	c.Dir = "controlplane"
	c.Env = append(os.Environ(), "GOWORK=off")
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("find kubernetes module: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "test/images"), nil
}

func pauseProgram(dir string) (string, error) {
	data, err := pause.Program(runtime.GOARCH)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pause-program")
	return path, os.WriteFile(path, data, 0o755)
}
