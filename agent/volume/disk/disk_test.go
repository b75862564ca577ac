package disk

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nodelet/agent/volume/mount"
	"nodelet/internal/mounttest"
)

func TestMain(m *testing.M) { os.Exit(mounttest.Main(m)) }

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func mounted(t *testing.T, device, fsType string, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := Mount(device, dir, fsType, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mount.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A new device gets a file system once: what is written to it stays, in use or not.
func TestADeviceIsFormattedOnce(t *testing.T) {
	need(t, "blkid", "mkfs.ext4", "fsck")
	device := mounttest.Loop(t, 16<<20)
	got, err := Prepare(t.Context(), device, "")
	if err != nil || got != "ext4" {
		t.Fatalf("%q, %v", got, err)
	}
	dir := mounted(t, device, got, "defaults", "noatime", "errors=remount-ro")
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if table, err := os.ReadFile("/proc/thread-self/mountinfo"); err != nil || !strings.Contains(string(table), dir+" rw,noatime") {
		t.Errorf("mounted without its options, %v:\n%s", err, table)
	}
	for _, when := range []string{"mounted", "not mounted"} {
		if got, err := Prepare(t.Context(), device, "ext4"); err != nil || got != "ext4" {
			t.Fatalf("%s: %q, %v", when, got, err)
		}
		if when == "mounted" {
			if err := mount.Unmount(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := mounted(t, device, "ext4", "ro")
	if _, err := os.Stat(filepath.Join(again, "precious")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(again, "x"), nil, 0o600); err == nil {
		t.Error("ro was ignored")
	}
}

func TestADeviceWithSomethingOnItIsLeftAlone(t *testing.T) {
	need(t, "blkid", "mkfs.ext4", "mkfs.ext2")
	// The signature of a table of partitions, with one of Linux.
	table := make([]byte, 512)
	table[510], table[511] = 0x55, 0xaa
	copy(table[446:], []byte{0, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 64, 0, 0, 0})
	for _, c := range []struct{ name, make, wanted, problem string }{
		{"another type", "mkfs.ext2", "ext4", "has file system ext2, and ext4 is wanted"},
		{"partitions", "", "", "has partitions (dos)"},
		{"bad name", "", "../ext4", "is not the name of a file system"},
		{"no such program", "none", "nosuchfs", "mkfs.nosuchfs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			device := mounttest.Loop(t, 16<<20)
			switch c.make {
			case "":
				if err := os.WriteFile(device, table, 0); err != nil {
					t.Fatal(err)
				}
			case "mkfs.ext2":
				if out, err := exec.Command(c.make, "-q", device).CombinedOutput(); err != nil {
					t.Fatalf("%v %s", err, out)
				}
			}
			before := content(t, device)
			_, err := Prepare(t.Context(), device, c.wanted)
			if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("got %v", err)
			}
			if content(t, device) != before {
				t.Error("the device was changed")
			}
		})
	}
}

func content(t *testing.T, device string) string {
	t.Helper()
	data, err := os.ReadFile(device)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWhatIsNoDevice(t *testing.T) {
	for _, path := range []string{t.TempDir(), "/dev/null", filepath.Join(t.TempDir(), "none")} {
		if got, err := Prepare(context.Background(), path, ""); err == nil {
			t.Errorf("%s: got %q", path, got)
		}
	}
}

func TestMountSaysWhatIsWrong(t *testing.T) {
	need(t, "mkfs.ext4")
	device := mounttest.Loop(t, 16<<20)
	if _, err := format(t.Context(), device, "ext4"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ fsType, option, says string }{
		{"ext4", "no-such-option", "the kernel's log says more"},
		{"nosuchfs", "ro", "this kernel does not know file system nosuchfs"},
	} {
		err := Mount(device, t.TempDir(), c.fsType, []string{c.option})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %s: %v", c.fsType, c.option, err)
		}
	}
	if _, held, err := mount.OfDevice(unix.Major(0), 0); held || err != nil {
		t.Errorf("no device is mounted, %v", err)
	}
}
