package embedded

import (
	"archive/tar"
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/cri/critest"
)

func TestImportErrors(t *testing.T) {
	m := newMachine(t)
	m.start()
	empty := &bytes.Buffer{}
	if err := tar.NewWriter(empty).Close(); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"":                       "want an OCI or docker archive",
		"this is no archive":     "import images",
		empty.String():           "import images",
		"\x1f\x8b\x08 not gzip ": "image",
	}
	for content, want := range tests {
		_, err := Import(t.Context(), "unix://"+m.config.Socket(), strings.NewReader(content))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", content, err, want)
		}
	}
}

func TestImportIntoAnotherRuntime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cri.sock")
	server := critest.New(critest.Config{FaultRate: -1})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, path) }()
	await(t, "the runtime", func() bool {
		_, err := Import(t.Context(), path, strings.NewReader(""))
		return err != nil && strings.Contains(err.Error(), "use that runtime's own tool")
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPauseImageComesBack: an operator removed all images.
func TestPauseImageComesBack(t *testing.T) {
	m := newMachine(t)
	m.start()
	present := func() bool {
		t.Helper()
		resp, err := m.cri.ImageStatus(t.Context(), &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: PauseImage}})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetImage() != nil
	}
	if !present() {
		t.Fatal("no pause image after the start")
	}
	if _, err := m.cri.RemoveImage(t.Context(), &runtimev1.RemoveImageRequest{Image: &runtimev1.ImageSpec{Image: PauseImage}}); err != nil {
		t.Fatal(err)
	}
	if present() {
		t.Fatal("removing the image did nothing: this test is no good")
	}
	m.signal(syscall.SIGTERM)
	m.start()
	if !present() {
		t.Error("the pause image did not come back")
	}
	m.runSandbox("web")
}

func TestArchiveDigest(t *testing.T) {
	got, err := archiveDigest(pauseArchive, PauseImage)
	if err != nil || got.Validate() != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := archiveDigest(pauseArchive, "other:1"); err == nil {
		t.Error("found an image that is not in the archive")
	}
	if _, err := archiveDigest([]byte("nonsense"), PauseImage); err == nil {
		t.Error("read nonsense")
	}
}

// TestNativeSnapshotter: where no overlay can be mounted, containers run all the same.
func TestNativeSnapshotter(t *testing.T) {
	t.Setenv(snapEnv, native)
	m := newMachine(t)
	m.start()
	m.importBusybox()
	id := m.runContainer(m.runSandbox("web"), "web", "app", "sleep", "1000")
	if got := m.exec(id, "sh", "-c", "echo written > /file; cat /file"); got != "written" {
		t.Errorf("got %q", got)
	}
}
