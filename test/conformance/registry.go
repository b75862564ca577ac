package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"nodelet/test/netlab/lab"
)

// registryEnv makes this program be the registry; its value is "address archive".
const registryEnv = "NODELET_CONFORMANCE_REGISTRY"

// registryPort is where the first node serves the images of the archive. Not
// 5000: specs of private registries run one there, in a pod on the node's network.
const registryPort = "5050"

// serving is what the registry says when all images are in it.
const serving = "serving"

// holdRegistry never returns in the process that is the registry. It serves the
// images of the archive under their paths, whatever registry their names begin with.
func holdRegistry() {
	address, archive, ok := strings.Cut(os.Getenv(registryEnv), " ")
	if !ok {
		return
	}
	err := serveRegistry(address, archive)
	fmt.Fprintln(os.Stderr, "registry:", err)
	os.Exit(1)
}

func serveRegistry(address, archive string) error {
	handler, err := archiveRegistry(archive)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println(serving)
	return (&http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}).Serve(listener)
}

// blobs are the layers and configurations of an archive's images.
type blobs map[v1.Hash]func() (io.ReadCloser, error)

// Get is registry.BlobHandler: a blob is the same in every repository.
func (b blobs) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	if open, ok := b[h]; ok {
		return open()
	}
	return nil, fmt.Errorf("find blob %s: not in the archive", h)
}

// add notes the blobs of an image.
func (b blobs) add(image v1.Image) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return err
		}
		b[digest] = l.Compressed
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return err
	}
	digest, err := image.ConfigName()
	b[digest] = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(config)), nil }
	return err
}

// archiveRegistry is a registry with the images of an archive.
func archiveRegistry(archive string) (http.Handler, error) {
	open := func() (io.ReadCloser, error) { return os.Open(archive) }
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", archive, err)
	}
	all := blobs{}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(all))
	for _, entry := range manifest {
		for _, tag := range entry.RepoTags {
			ref, err := name.NewTag(tag)
			if err != nil {
				return nil, err
			}
			image, err := tarball.Image(open, &ref)
			if err == nil {
				err = errors.Join(all.add(image), putManifest(handler, ref, image))
			}
			if err != nil {
				return nil, fmt.Errorf("serve %s: %w", tag, err)
			}
		}
	}
	return handler, nil
}

// putManifest tells a registry of an image whose blobs it has.
func putManifest(handler http.Handler, ref name.Tag, image v1.Image) error {
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	kind, err := image.MediaType()
	if err != nil {
		return err
	}
	request := httptest.NewRequest(http.MethodPut, "/v2/"+ref.RepositoryStr()+"/manifests/"+ref.TagStr(), bytes.NewReader(manifest))
	request.Header.Set("Content-Type", string(kind))
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusCreated {
		return fmt.Errorf("put manifest: %d %s", answer.Code, answer.Body)
	}
	return nil
}

// startRegistry serves the archive's images on the first node, for what is
// pulled although it is there, and tells all nodes to pull from it: the result
// is the folder for --registry-config-dir. It ends with the lab.
func startRegistry(ctx context.Context, l *lab.Lab, archive string) (configDir string, err error) {
	first := &l.Nodes[0]
	address := net.JoinHostPort(first.IP.String(), registryPort)
	configDir = filepath.Join(first.Dir, "registries")
	if err := os.MkdirAll(filepath.Join(configDir, "_default"), 0o755); err != nil {
		return "", err
	}
	hosts := fmt.Sprintf("[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", "http://"+address)
	if err := os.WriteFile(filepath.Join(configDir, "_default", "hosts.toml"), []byte(hosts), 0o644); err != nil {
		return "", err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := first.Command(ctx, exe)
	cmd.Env = append(os.Environ(), registryEnv+"="+address+" "+archive)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start registry: %w", err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != serving {
		return "", errors.Join(fmt.Errorf("start registry: it said %q", line), err, cmd.Wait())
	}
	return configDir, nil
}
