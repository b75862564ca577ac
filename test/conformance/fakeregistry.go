package main

import (
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fakeRegistry are the files of an image in the form that agnhost's
// fake-registry-server gives out, by their path in agnhost's image. Upstream's
// script fetches them from its registry.
func fakeRegistry(image v1.Image, name, tag string) (map[string]string, error) {
	dir := "var/registry/" + name + "/"
	manifest, err := image.RawManifest()
	if err != nil {
		return nil, err
	}
	digest, err := image.Digest()
	if err != nil {
		return nil, err
	}
	all := blobs{}
	if err := all.add(image); err != nil {
		return nil, err
	}
	files := map[string]string{
		dir + "manifests/" + tag:                digest.String(),
		dir + "manifests/" + digestPath(digest): string(manifest),
	}
	for digest, open := range all {
		data, err := contentOf(open)
		if err != nil {
			return nil, err
		}
		files[dir+"blobs/"+digestPath(digest)] = data
	}
	return files, nil
}

// digestPath is where a registry keeps what has that digest.
func digestPath(h v1.Hash) string {
	return h.Algorithm + "/" + h.Hex[:2] + "/" + h.Hex + "/data"
}

func contentOf(open func() (io.ReadCloser, error)) (string, error) {
	r, err := open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}
