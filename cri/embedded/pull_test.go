package embedded

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestPull pulls through a mirror that hosts.toml names, and says why it cannot.
func TestPull(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	push(t, server.URL, "team/pause")

	m := newMachine(t)
	m.write("certs.d/registry.test/hosts.toml", fmt.Sprintf("[host.%q]\ncapabilities = [\"pull\", \"resolve\"]\n", server.URL), 0o644)
	m.start()
	pulled, err := m.cri.PullImage(t.Context(), &runtimev1.PullImageRequest{Image: &runtimev1.ImageSpec{Image: "registry.test/team/pause:1"}})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := m.cri.ImageStatus(t.Context(), &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: pulled.GetImageRef()}})
	if err != nil || shown.GetImage() == nil {
		t.Errorf("the pulled image: %v, %v", shown, err)
	}
	_, err = m.cri.PullImage(t.Context(), &runtimev1.PullImageRequest{Image: &runtimev1.ImageSpec{Image: "registry.test/team/other:1"}})
	if err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("an image that is not there: %v", err)
	}
}

// push puts the pause image into a registry.
func push(t *testing.T, url, repository string) {
	t.Helper()
	digest, err := archiveDigest(pauseArchive, PauseImage)
	if err != nil {
		t.Fatal(err)
	}
	for reader := tar.NewReader(bytes.NewReader(pauseArchive)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(header.Name, "blobs/") {
			continue
		}
		blob, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		name := "sha256:" + path.Base(header.Name)
		send(t, http.MethodPost, url+"/v2/"+repository+"/blobs/uploads/?digest="+name, blob)
		if name == digest.String() {
			send(t, http.MethodPut, url+"/v2/"+repository+"/manifests/1", blob)
		}
	}
}

func send(t *testing.T, method, url string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", ocispec.MediaTypeImageManifest)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %s", method, url, resp.Status)
	}
}
