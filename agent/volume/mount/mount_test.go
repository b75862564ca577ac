package mount

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"nodelet/internal/mounttest"
)

func TestMain(m *testing.M) { os.Exit(mounttest.Main(m)) }

// tempDir is removed after what the test left mounted there.
func tempDir(t *testing.T) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestTmpfs(t *testing.T) {
	mounttest.NeedRoot(t)
	dir := t.TempDir()
	if m, err := IsMount(dir); err != nil || m {
		t.Fatalf("before: %t %v", m, err)
	}
	if err := (Tmpfs{Mode: 0o2770, GID: 4711, Size: 1 << 20}).Mount(dir); err != nil {
		t.Fatal(err)
	}
	if m, err := IsMount(dir); err != nil || !m {
		t.Fatalf("after: %t %v", m, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Sys().(*syscall.Stat_t); got.Gid != 4711 || got.Mode&0o7777 != 0o2770 {
		t.Errorf("gid %d mode %o", got.Gid, got.Mode&0o7777)
	}
	if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("2 MiB into 1 MiB: %v", err)
	}
	if err := Unmount(dir); err != nil {
		t.Fatal(err)
	}
	if m, err := IsMount(dir); err != nil || m {
		t.Fatalf("at the end: %t %v", m, err)
	}
}

// What NoSwap says of the kernel is what a mount of it has.
func TestNoSwap(t *testing.T) {
	mounttest.NeedRoot(t)
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "noswap")
	if err == nil {
		if err := Unmount(dir); err != nil {
			t.Fatal(err)
		}
	}
	if NoSwap() != (err == nil) {
		t.Errorf("NoSwap %t, a mount: %v", NoSwap(), err)
	}
}

func TestUnmountBelowTakesStackedAndNestedMountsAndNothingElse(t *testing.T) {
	mounttest.NeedRoot(t)
	base := tempDir(t)
	dir, sibling := filepath.Join(base, "pod"), filepath.Join(base, "pod-2")
	for _, d := range []string{filepath.Join(dir, "with space"), sibling} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	places := []string{sibling, dir + "/with space", dir + "/with space", dir + "/with space/inner"}
	for i, p := range places {
		if i == 3 {
			if err := os.Mkdir(p, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := (Tmpfs{Mode: 0o755, GID: -1}).Mount(p); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Below(dir)
	want := []string{dir + "/with space/inner", dir + "/with space", dir + "/with space"}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
	if err := UnmountBelow(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := Below(base); err != nil || !slices.Equal(got, []string{sibling}) {
		t.Fatalf("left %q, %v", got, err)
	}
}

func TestRemoveTreeStopsAtMountsAndLinks(t *testing.T) {
	mounttest.NeedRoot(t)
	base := tempDir(t)
	outside, dir := filepath.Join(base, "outside"), filepath.Join(base, "pod")
	write(t, outside+"/precious")
	write(t, dir+"/volumes/v/file")
	for _, name := range []string{"link", "volumes/v/abs"} {
		if err := os.Symlink(outside, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// A bind mount of the same file system is a mount like any other.
	for from, to := range map[string]string{outside: dir + "/volumes/bound", outside + "/precious": dir + "/bound-file"} {
		// The round before may have removed anything but its own mount.
		if err := os.MkdirAll(dir+"/volumes/bound", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir+"/bound-file")
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		if err := RemoveTree(dir); !errors.Is(err, ErrMounted) {
			t.Fatalf("with a mount on %s: %v", to, err)
		}
		if !there(outside + "/precious") {
			t.Fatal("removed through a mount")
		}
		if err := Unmount(to); err != nil {
			t.Fatal(err)
		}
	}
	if err := RemoveTree(dir); err != nil {
		t.Fatal(err)
	}
	if there(dir) || !there(outside+"/precious") {
		t.Fatal("too little or too much was removed")
	}
	if err := RemoveTree(dir); err != nil {
		t.Fatalf("once more: %v", err)
	}
}

func TestRemoveTreeOfADirectoryOnATop(t *testing.T) {
	mounttest.NeedRoot(t)
	dir := filepath.Join(tempDir(t), "v")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := (Tmpfs{Mode: 0o755, GID: -1}).Mount(dir); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/data")
	if err := RemoveTree(dir); !errors.Is(err, ErrMounted) || !there(dir+"/data") {
		t.Fatalf("got %v", err)
	}
}

func TestRemoveTreeDeeperThanPathsMayBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 { // far beyond PATH_MAX and the usual limit of open files
		if err := unix.Mkdirat(fd, "deeper", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "deeper", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
	if err := RemoveTree(dir); err != nil {
		t.Fatal(err)
	}
	if there(dir) {
		t.Fatal("still there")
	}
}

func TestParse(t *testing.T) {
	table := `22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /pods/u/v\040x rw - tmpfs tmpfs rw
31 30 0:26 / /pods/u/v\040x/in rw - tmpfs tmpfs rw
32 22 0:27 / /pods/u2 rw - tmpfs tmpfs rw
`
	got, err := parse(strings.NewReader(table), "/pods/u")
	if err != nil || !slices.Equal(got, []string{"/pods/u/v x/in", "/pods/u/v x"}) {
		t.Fatalf("got %q, %v", got, err)
	}
	if all, err := parse(strings.NewReader(table), "/"); err != nil || len(all) != 4 {
		t.Fatalf("got %q, %v", all, err)
	}
	if _, err := parse(strings.NewReader("nonsense\n"), "/"); err == nil {
		t.Fatal("no error for a line that is none")
	}
}

func TestHugePages(t *testing.T) {
	mounttest.NeedRoot(t)
	if !there("/sys/kernel/mm/hugepages/hugepages-2048kB") {
		t.Skip("needs a kernel with huge pages of 2 MiB")
	}
	dir := tempDir(t)
	if err := (HugePages{Mode: 0o2770, GID: 4711, Size: 3}).Mount(dir); err == nil {
		t.Error("pages of 3 bytes")
	}
	if err := (HugePages{Mode: 0o2770, GID: 4711, Size: 2 << 20}).Mount(dir); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.HUGETLBFS_MAGIC || fs.Bsize != 2<<20 {
		t.Errorf("type %x, blocks of %d, %v", fs.Type, fs.Bsize, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Gid != 4711 || st.Mode&0o7777 != 0o2770 {
		t.Errorf("group %d, mode %o", st.Gid, st.Mode&0o7777)
	}
}
