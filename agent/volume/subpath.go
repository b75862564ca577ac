package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"nodelet/agent/volume/mount"
	"nodelet/agent/volume/volumeplan"
	"nodelet/internal/model"
)

// subPathDir holds the bind mounts of sub paths below a pod's directory:
// volume, container, index of the mount, as upstream lays them out.
const subPathDir = "volume-subpaths"

// within keeps the kernel from leaving the volume while it follows a sub path:
// links that stay inside are fine, absolute ones and those that lead out are refused.
const within = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS

// SubPath asks for a part of a volume.
type SubPath struct {
	PodUID    model.UID
	Container string
	// Index of the volume mount in the container.
	Index  int
	Volume string
	// Path is subPath, or subPathExpr with its variables filled in.
	Path string
}

// String names the mount as the pod's spec does.
func (s SubPath) String() string {
	return fmt.Sprintf("volumeMount %q of container %q", s.Volume, s.Container)
}

// BindSubPath gives the place on the host that stands for a part of a volume,
// whatever containers do to the volume meanwhile. A part that is not there is
// created as a directory. Calling it again gives the same place.
//
// The error says nothing about the host's files, because its text goes to the
// owner of the pod; the log has the rest.
func (v *Volumes) BindSubPath(ctx context.Context, s SubPath) (string, error) {
	release, err := v.pods.Acquire(ctx, s.PodUID)
	if err != nil {
		return "", err
	}
	defer release()
	row, ok := v.deps.Store.Snapshot().Volumes.Get(s.PodUID)
	if !ok || row.State != model.VolumesReady || row.HostPaths[s.Volume] == "" {
		return "", fmt.Errorf("volume %q of pod %s is not ready", s.Volume, s.PodUID)
	}
	if err := s.check(); err != nil {
		return "", err
	}
	target, err := v.bindSubPath(s, row.HostPaths[s.Volume])
	if err != nil {
		v.deps.Log.Error("prepare subPath", "pod", s.PodUID, "container", s.Container, "volume", s.Volume, "subPath", s.Path, "err", err)
		return "", fmt.Errorf("prepare subPath for %s: it does not exist inside the volume or leads out of it", s)
	}
	return target, nil
}

func (s SubPath) check() error {
	if path.IsAbs(s.Path) {
		return fmt.Errorf("subPath %q of %s must not be an absolute path", s.Path, s)
	}
	if slices.Contains(strings.Split(s.Path, "/"), "..") {
		return fmt.Errorf("subPath %q of %s must not contain '..'", s.Path, s)
	}
	for _, name := range []string{s.Container, s.Volume} {
		if name == "" || name[0] == '.' || strings.Contains(name, "/") {
			return fmt.Errorf("%s has a name that cannot be a directory", s)
		}
	}
	return nil
}

func (v *Volumes) bindSubPath(s SubPath, volume string) (string, error) {
	podDir, err := volumeplan.PodDir(v.cfg.Root, s.PodUID)
	if err != nil {
		return "", err
	}
	part, err := openPart(volume, path.Clean(s.Path))
	if err != nil {
		return "", err
	}
	defer part.Close()
	target := filepath.Join(podDir, subPathDir, s.Volume, s.Container, strconv.Itoa(s.Index))
	bound, err := makeTarget(part, target)
	if err != nil || bound {
		return target, err
	}
	return target, mount.BindFD(int(part.Fd()), target)
}

// openPart opens, without reading, what rel names inside a volume. Directories
// that are missing are made with the volume's own mode, so that whoever may
// write to the volume may write to them.
func openPart(volume, rel string) (*os.File, error) {
	root, err := os.OpenFile(volume, unix.O_DIRECTORY|unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	part, err := openWithin(root, rel, unix.O_PATH)
	if !errors.Is(err, fs.ErrNotExist) {
		return part, err
	}
	info, err := root.Stat()
	if err != nil {
		return nil, err
	}
	if err := makeWithin(root, rel, info.Mode()); err != nil {
		return nil, err
	}
	return openWithin(root, rel, unix.O_PATH)
}

// openWithin opens rel below root as the kernel finds it there in one step.
func openWithin(root *os.File, rel string, flags uint64) (*os.File, error) {
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: within}
	// A rename anywhere meanwhile makes the kernel give up with EAGAIN rather than be misled.
	for range 100 {
		fd, err := unix.Openat2(int(root.Fd()), rel, how)
		if err == nil {
			return os.NewFile(uintptr(fd), rel), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("open %q inside the volume: %w", rel, err)
		}
	}
	return nil, fmt.Errorf("open %q inside the volume: it keeps being renamed", rel)
}

// makeWithin makes the missing directories of rel. Each is made in an open
// parent and must be a directory, not a link, when it is opened for the next.
func makeWithin(root *os.File, rel string, mode fs.FileMode) error {
	names := strings.Split(rel, "/")
	for i := range names {
		sub := path.Join(names[:i+1]...)
		found, err := openWithin(root, sub, unix.O_PATH)
		if err == nil {
			found.Close()
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := makeOne(root, path.Join(names[:i]...), names[i], mode); err != nil {
			return err
		}
	}
	return nil
}

func makeOne(root *os.File, parent, name string, mode fs.FileMode) error {
	if parent == "" {
		parent = "."
	}
	dir, err := openWithin(root, parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Mkdirat(int(dir.Fd()), name, 0o700); err != nil {
		return fmt.Errorf("create %q inside the volume: %w", name, err)
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q inside the volume: %w", name, err)
	}
	made := os.NewFile(uintptr(fd), name)
	defer made.Close()
	return made.Chmod(mode & (fs.ModePerm | fs.ModeSetgid | fs.ModeSticky))
}

// makeTarget makes the file or directory to mount on. bound tells that the
// right thing is mounted there already; anything else that is, is unmounted.
func makeTarget(part *os.File, target string) (bound bool, err error) {
	want, err := part.Stat()
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(target), dirMode); err != nil {
		return false, err
	}
	for {
		have, err := os.Lstat(target)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return false, err
		}
		mounted, err := mount.IsMount(target)
		if err != nil {
			return false, err
		}
		if mounted {
			if os.SameFile(have, want) {
				return true, nil
			}
			if err := mount.Unmount(target); err != nil {
				return false, err
			}
			continue
		}
		if have.IsDir() == want.IsDir() {
			return false, nil
		}
		if err := os.Remove(target); err != nil {
			return false, err
		}
	}
	if want.IsDir() {
		return false, os.Mkdir(target, dirMode)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return false, err
	}
	return false, f.Close()
}
