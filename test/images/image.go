package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// spec is an image: its files, and what a container of it runs.
type spec struct {
	name       string // with registry and tag
	arch       string
	files      []file
	entrypoint []string
	command    []string
	env        []string
	user       string // uid:gid; empty: root
	workdir    string
}

// file is a file, a link when link is set, or a directory when the path ends in a slash.
type file struct {
	path   string
	mode   fs.FileMode
	data   []byte
	link   string
	sticky bool
}

// epoch is the time of everything: images of the same content are the same image.
var epoch = time.Unix(0, 0).UTC()

func (s spec) image() (v1.Image, error) {
	content, err := layer(s.files)
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	image, err = mutate.AppendLayers(image, static.NewLayer(content, types.OCIUncompressedLayer))
	if err != nil {
		return nil, fmt.Errorf("add layer: %w", err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read image configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", s.arch, v1.Time{Time: epoch}
	config.History = nil
	config.Config = v1.Config{
		Entrypoint: s.entrypoint, Cmd: s.command, Env: s.env, User: s.user, WorkingDir: cmp.Or(s.workdir, "/"),
	}
	return mutate.ConfigFile(image, config)
}

// layer packs files, with the directories they are in, sorted.
func layer(files []file) ([]byte, error) {
	all := map[string]file{}
	for _, f := range files {
		for dir := path.Dir(path.Clean(f.path)); dir != "."; dir = path.Dir(dir) {
			if _, known := all[dir+"/"]; !known {
				all[dir+"/"] = file{path: dir + "/", mode: 0o755}
			}
		}
		all[f.path] = f
	}
	sorted := make([]file, 0, len(all))
	for _, f := range all {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b file) int { return cmp.Compare(a.path, b.path) })
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	for _, f := range sorted {
		if err := writer.WriteHeader(f.header()); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
		if _, err := writer.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("pack layer: %w", err)
	}
	return out.Bytes(), nil
}

func (f file) header() *tar.Header {
	const stickyBit = 0o1000 // as tar writes it
	header := &tar.Header{Name: f.path, Mode: int64(f.mode.Perm()), ModTime: epoch, Format: tar.FormatPAX}
	if f.sticky {
		header.Mode |= stickyBit
	}
	switch {
	case f.link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.link, 0o777
	case f.path[len(f.path)-1] == '/':
		header.Typeflag = tar.TypeDir
	default:
		header.Typeflag, header.Size = tar.TypeReg, int64(len(f.data))
	}
	return header
}
