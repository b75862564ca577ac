package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// write makes the OCI archive of one image at path, in one step.
func write(path string, s spec) error {
	image, err := s.image()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "images-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tree, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("lay out image: %w", err)
	}
	err = tree.AppendImage(image, layout.WithAnnotations(map[string]string{
		"io.containerd.image.name":          s.name, // containerd
		"org.opencontainers.image.ref.name": s.name, // podman, skopeo
	}), layout.WithPlatform(v1.Platform{OS: "linux", Architecture: s.arch}))
	if err != nil {
		return fmt.Errorf("lay out image: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	if err := errors.Join(pack(temp, dir), temp.Chmod(0o644), temp.Close()); err != nil {
		return fmt.Errorf("pack image: %w", err)
	}
	return os.Rename(temp.Name(), path)
}

// pack writes the tree below dir, sorted, and without what differs between two machines.
func pack(out io.Writer, dir string) error {
	writer := tar.NewWriter(out)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: epoch, Format: tar.FormatPAX}
		if err := writer.WriteHeader(header); err != nil {
			return err
		}
		_, err = writer.Write(data)
		return err
	})
	return errors.Join(err, writer.Close())
}
