package mounttest

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Loop gives a block device of that many bytes, all zero, for the time of the
// test; the node is in a directory of the test. It skips where the kernel has none.
func Loop(t testing.TB, size int64) string {
	t.Helper()
	NeedRoot(t)
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "content"))
	if err == nil {
		err = file.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no loop devices: %v", err)
	}
	defer control.Close()
	// Somebody else may take a free one before it is ours.
	for range 10 {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skipf("this machine has no free loop device: %v", err)
		}
		node := filepath.Join(dir, "loop"+strconv.Itoa(number))
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(number)))); err != nil {
			t.Skipf("cannot make a device node: %v", err)
		}
		// Autoclear: it is free again when nothing has it open or mounted.
		device, err := os.OpenFile(node, os.O_RDWR, 0)
		if err != nil {
			t.Skipf("cannot open a loop device: %v", err)
		}
		config := &unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		if unix.IoctlLoopConfigure(int(device.Fd()), config) != nil {
			device.Close()
			continue
		}
		t.Cleanup(func() { device.Close() })
		return node
	}
	t.Skip("no loop device could be had")
	return ""
}
