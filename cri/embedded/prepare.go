package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	overlayfs = "overlayfs"
	native    = "native"
)

// shimName is what containerd calls the shim of its runtime io.containerd.runc.v2.
const shimName = "containerd-shim-runc-v2"

// findPrograms makes sure, before anything is made, that the programs are there.
func findPrograms(c Config) (found, error) {
	runc, err := findRunc(c.Runc)
	if err != nil {
		return found{}, err
	}
	if _, err := os.Stat(c.Shim); err != nil {
		return found{}, fmt.Errorf("find the containerd shim: %w: it is built with nodelet (make build) and belongs beside it", err)
	}
	return found{runc: runc}, nil
}

// makeDirs makes the directories with the modes of containerd's own CreateTopLevelDirectories: what is
// in the state directory belongs to containers of other users, too, with user namespaces.
func makeDirs(c Config) error {
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{c.Root, 0o700}, {c.State, 0o711}, {c.shimSockets(), 0o711}} {
		if err := makeDir(dir.path, dir.mode); err != nil {
			return err
		}
	}
	return nil
}

// prepare puts the shim in its place and finds out what the machine can do. The root is locked.
func prepare(c Config, f *found) error {
	var err error
	if f.shim, err = installShim(c.Shim, filepath.Join(c.Root, "bin", shimName)); err != nil {
		return err
	}
	if err := findFirst(filepath.Dir(f.shim)); err != nil {
		return err
	}
	if f.snapshotter, err = chooseSnapshotter(c); err != nil {
		return err
	}
	f.restrictOOM = !canLowerOOMScore()
	return WriteSandboxSeccomp(c.sandboxSeccomp())
}

func findRunc(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("find the OCI runtime %q: %w: install it (Debian: apt-get install runc) or name another one", name, err)
	}
	return path, nil
}

func makeDir(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return fmt.Errorf("make containerd's directory: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("set the mode of containerd's directory: %w", err)
	}
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("write to containerd's directory %s: %w", path, err)
	}
	return nil
}

// installShim copies the shim below the root and returns the copy's path. containerd notes the path
// with every container; were it gone when the daemon comes back from an upgrade or from another
// directory, containerd would drop the container instead of adopting it.
func installShim(path, target string) (string, error) {
	source, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the containerd shim: %w", err)
	}
	defer func() { _ = source.Close() }()
	info, err := source.Stat()
	if err != nil {
		return "", fmt.Errorf("read the containerd shim: %w", err)
	}
	if have, err := os.Stat(target); err == nil && have.Size() == info.Size() && have.ModTime().Equal(info.ModTime()) {
		return target, nil
	}
	if err := copyProgram(target, source); err != nil {
		return "", fmt.Errorf("copy the containerd shim to %s: %w", target, err)
	}
	if err := os.Chtimes(target, info.ModTime(), info.ModTime()); err != nil {
		return "", fmt.Errorf("date the copy of the containerd shim: %w", err)
	}
	return target, nil
}

// findFirst puts dir at the head of PATH. It is the one setting of the whole process that containerd
// cannot be talked out of: a container that joined its sandbox's shim is adopted by looking up the
// shim's name in PATH, where a distribution's older shim might be. dir holds nothing but the shim.
func findFirst(dir string) error {
	path := os.Getenv("PATH")
	if head, _, _ := strings.Cut(path, ":"); head == dir {
		return nil
	}
	if err := os.Setenv("PATH", dir+":"+path); err != nil {
		return fmt.Errorf("put the containerd shim into PATH: %w", err)
	}
	return nil
}

// copyProgram replaces target in one step: running shims keep the old file. It does not wait for the
// disk: a copy that a power cut truncated has another size, and is made again.
func copyProgram(target string, source io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(target), ".shim-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = io.Copy(temp, source)
	if err := errors.Join(err, temp.Chmod(0o755), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), target)
}

// chooseSnapshotter takes the configured snapshotter, or the one whose snapshots are in the root
// already, or overlayfs if it can be mounted there.
func chooseSnapshotter(c Config) (string, error) {
	choice := c.Snapshotter
	for _, name := range []string{overlayfs, native} {
		if _, err := os.Lstat(snapshotDB(c.Root, name)); choice == "" && err == nil {
			choice = name
		}
	}
	if choice == native {
		return native, nil
	}
	err := tryOverlay(c.Root)
	switch {
	case err == nil:
		return overlayfs, nil
	case choice == overlayfs:
		return "", fmt.Errorf("mount an overlay in %s: %w: the images there are kept as overlays; choose another data directory or reset this one", c.Root, err)
	default:
		return native, nil // copies every layer: slow, but works anywhere
	}
}

// tryOverlay mounts an overlay below dir and takes it away again. It does not work on overlayfs, on
// some network file systems and in some containers.
func tryOverlay(dir string) error {
	base := filepath.Join(dir, "overlay-trial")
	if err := removeTree(base); err != nil { // a predecessor was killed in the middle of this
		return err
	}
	defer func() { _ = os.RemoveAll(base) }()
	if err := os.Mkdir(base, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(base, "lower", "file"), nil, 0o600); err != nil {
		return err
	}
	merged := filepath.Join(base, "merged")
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", base, base, base)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return err
	}
	// Removing needs a whiteout, which is what file systems without support for the upper layer lack.
	return errors.Join(os.Remove(filepath.Join(merged, "file")), unix.Unmount(merged, unix.MNT_DETACH))
}

// canLowerOOMScore reports whether this process has CAP_SYS_RESOURCE, and so may protect pods from
// the OOM killer.
func canLowerOOMScore() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[unix.CAP_SYS_RESOURCE>>5].Effective&(1<<(unix.CAP_SYS_RESOURCE&31)) != 0
}
