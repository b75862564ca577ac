package embedded

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri"
)

// importer adds the images of archives to a containerd.
type importer struct {
	client      *containerd.Client
	runtime     cri.Images
	snapshotter string
}

// Import adds the images of an OCI or docker archive, plain or gzipped, to the runtime at endpoint
// and returns their names. CRI has no call for that, so it works with containerd only.
func Import(ctx context.Context, endpoint string, archive io.Reader) ([]string, error) {
	runtime, err := cri.Dial(endpoint, cri.Deps{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = runtime.Close() }()
	version, err := runtime.Version(ctx, &runtimev1.VersionRequest{})
	if err != nil {
		return nil, err
	}
	if name := version.GetRuntimeName(); name != "containerd" {
		return nil, fmt.Errorf("import images into %s at %s: there is no common way to do it: use that runtime's own tool (CRI-O: skopeo copy oci-archive:FILE containers-storage:NAME)", name, runtime.Endpoint())
	}
	client, err := containerd.New(runtime.Endpoint()[len("unix://"):],
		containerd.WithDefaultNamespace(namespace), containerd.WithDefaultPlatform(platforms.Default()))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", runtime.Endpoint(), err)
	}
	defer func() { _ = client.Close() }()
	snapshotter, err := snapshotterOf(ctx, runtime)
	if err != nil {
		return nil, err
	}
	return (&importer{client: client, runtime: runtime, snapshotter: snapshotter}).add(ctx, archive)
}

// snapshotterOf finds containerd's snapshotter, which no version tells outright, in the path of its
// image file system: /var/lib/containerd/io.containerd.snapshotter.v1.overlayfs.
func snapshotterOf(ctx context.Context, runtime cri.Images) (string, error) {
	info, err := runtime.ImageFsInfo(ctx, &runtimev1.ImageFsInfoRequest{})
	if err != nil {
		return "", err
	}
	for _, fs := range info.GetImageFilesystems() {
		if _, name, ok := strings.Cut(path.Base(fs.GetFsId().GetMountpoint()), "io.containerd.snapshotter.v1."); ok {
			return name, nil
		}
	}
	return overlayfs, nil // the default of every version
}

// add imports and unpacks, and returns when CRI knows the images.
func (i *importer) add(ctx context.Context, archive io.Reader) ([]string, error) {
	ctx = namespaces.WithNamespace(ctx, namespace)
	plain, err := compression.DecompressStream(archive)
	if err != nil {
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	defer func() { _ = plain.Close() }()
	ctx, done, err := i.client.WithLease(ctx) // what is half imported is not collected, and is later
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	imported, err := i.client.Import(ctx, plain, containerd.WithSkipMissing()) // other platforms may be cut out
	if err != nil {
		return nil, fmt.Errorf("import images: %w: want an OCI or docker archive, plain or gzipped", err)
	}
	if len(imported) == 0 {
		return nil, errors.New("import images: the archive names none: it needs RepoTags in manifest.json, or org.opencontainers.image.ref.name in index.json")
	}
	names := make([]string, 0, len(imported))
	for _, image := range imported {
		if err := containerd.NewImage(i.client, image).Unpack(ctx, i.snapshotter); err != nil {
			return names, fmt.Errorf("unpack image %s: %w", image.Name, err)
		}
		if err := i.awaitCRI(ctx, image.Name); err != nil {
			return names, err
		}
		names = append(names, image.Name)
	}
	return names, nil
}

// awaitCRI waits until CRI knows the image: it learns of it by an event.
func (i *importer) awaitCRI(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		status, err := i.runtime.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: name}})
		if err != nil {
			return fmt.Errorf("look for the imported image %s: %w", name, err)
		}
		if status.GetImage() != nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("look for the imported image %s: the runtime does not show it", name)
		}
	}
}

// ensure imports archive unless the image of that name is the archive's already.
func (i *importer) ensure(ctx context.Context, name string, archive []byte) error {
	ctx = namespaces.WithNamespace(ctx, namespace)
	want, err := archiveDigest(archive, name)
	if err != nil {
		return fmt.Errorf("read the built-in image %s: %w", name, err)
	}
	have, err := i.client.ImageService().Get(ctx, name)
	switch {
	case err == nil && have.Target.Digest == want && i.unpacked(ctx, have):
		return nil
	case err != nil && !errdefs.IsNotFound(err):
		return fmt.Errorf("look for image %s: %w", name, err)
	}
	_, err = i.add(ctx, bytes.NewReader(archive))
	return err
}

func (i *importer) unpacked(ctx context.Context, image images.Image) bool {
	ok, err := containerd.NewImage(i.client, image).IsUnpacked(ctx, i.snapshotter)
	return err == nil && ok
}

// archiveDigest is the digest of the image called name in an OCI archive.
func archiveDigest(archive []byte, name string) (digest.Digest, error) {
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if err != nil {
			return "", fmt.Errorf("find index.json: %w", err)
		}
		if path.Clean(header.Name) != ocispec.ImageIndexFile {
			continue
		}
		var index ocispec.Index
		if err := json.NewDecoder(reader).Decode(&index); err != nil {
			return "", fmt.Errorf("decode index.json: %w", err)
		}
		for _, manifest := range index.Manifests {
			if manifest.Annotations[images.AnnotationImageName] == name {
				return manifest.Digest, nil
			}
		}
		return "", fmt.Errorf("index.json does not name %s", name)
	}
}
