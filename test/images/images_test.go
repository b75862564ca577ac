package main

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPauseArchives: what is built into the daemon is what the catalogue gives.
func TestPauseArchives(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		dir := t.TempDir()
		if err := run([]string{"-out", dir, "-arch", arch, "pause"}); err != nil {
			t.Fatal(err)
		}
		built, err := os.ReadFile(filepath.Join(dir, "pause.tar"))
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile("../../cri/embedded/pause_" + arch + ".tar")
		if err != nil || !bytes.Equal(built, committed) {
			t.Errorf("cri/embedded/pause_%s.tar is out of date (%v): go generate ./cri/embedded/...", arch, err)
		}
	}
}

// TestReproducible: two builds give the same bytes, programs included.
func TestReproducible(t *testing.T) {
	wanted := []string{"hello"}
	if _, err := exec.LookPath("busybox"); err == nil {
		wanted = append(wanted, "busybox")
	}
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		if err := run(append([]string{"-out", dir}, wanted...)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range wanted {
		a, errA := os.ReadFile(filepath.Join(first, name+".tar"))
		b, errB := os.ReadFile(filepath.Join(second, name+".tar"))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs (%v, %v)", name, errA, errB)
		}
	}
}

func TestLayer(t *testing.T) {
	content, err := layer([]file{
		{path: "usr/bin/tool", mode: 0o755, data: []byte("tool")},
		{path: "tmp/", mode: 0o777, sticky: true},
		{path: "bin/sh", link: "tool"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for reader := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(epoch) || header.Uid != 0 {
			t.Errorf("%s: time %s, uid %d", header.Name, header.ModTime, header.Uid)
		}
		got = append(got, header.FileInfo().Mode().String()+" "+header.Name+" "+header.Linkname)
	}
	want := []string{
		"drwxr-xr-x bin/ ", "Lrwxrwxrwx bin/sh tool", "dtrwxrwxrwx tmp/ ",
		"drwxr-xr-x usr/ ", "drwxr-xr-x usr/bin/ ", "-rwxr-xr-x usr/bin/tool ",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestUnknownName(t *testing.T) {
	if err := run([]string{"-out", t.TempDir(), "nothing"}); err == nil || !strings.Contains(err.Error(), "busybox hello nodelet pause") {
		t.Errorf("%v does not say what there is", err)
	}
}
