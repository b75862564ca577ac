package stats

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// fsSpace asks for the file system a path is on; nil when it cannot be had.
func fsSpace(path string) *Space {
	var st syscall.Statfs_t
	if path == "" || syscall.Statfs(path, &st) != nil {
		return nil
	}
	size := uint64(st.Bsize)
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return &Space{
		Device: dev(info), At: time.Now(), Available: st.Bavail * size, Capacity: st.Blocks * size, Used: (st.Blocks - st.Bfree) * size,
		InodesFree: st.Ffree, InodesAll: st.Files, InodesUsed: st.Files - st.Ffree,
	}
}

// within gives what is used together with what its file system has.
func (s *Space) within(fs *Space) *Space {
	if s == nil || fs == nil {
		return s
	}
	out := *fs
	out.At, out.Used, out.InodesUsed = s.At, s.Used, s.InodesUsed
	return &out
}

func (s *Space) orNothing() *Space {
	if s == nil {
		return &Space{}
	}
	return s
}

// files adds up the files in one directory, without those below. A directory that is not there is empty.
func files(dir string) *Space {
	sum := &Space{At: time.Now()}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return sum
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // gone meanwhile otherwise
			sum.add(info)
		}
	}
	return sum
}

// add counts one file by the blocks it takes.
func (s *Space) add(info fs.FileInfo) {
	s.InodesUsed++
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Used += uint64(st.Blocks) * 512
	}
}

// walkBatch is how many entries are looked at before the walk rests for as long as they took.
const walkBatch = 512

// walk adds up what is below a directory: each file once, nothing behind a mount. rest is called with
// the time that the last entries took; when it returns false the walk ends and gives nothing.
func walk(dir string, rest func(time.Duration) bool) *Space {
	sum := &Space{At: time.Now()}
	root, err := os.Lstat(dir)
	if err != nil {
		return nil
	}
	device := dev(root)
	type inode struct{ dev, ino uint64 }
	several := map[inode]bool{} // files with more than one name
	n, began := 0, time.Now()
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if n++; n%walkBatch == 0 {
			if !rest(time.Since(began)) {
				return fs.SkipAll
			}
			began = time.Now()
		}
		if err != nil {
			return nil //nolint:nilerr // what vanished or may not be read is left out
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // it vanished
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case ok && st.Dev != device:
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case ok && st.Nlink > 1 && !d.IsDir():
			if several[inode{st.Dev, st.Ino}] {
				return nil
			}
			several[inode{st.Dev, st.Ino}] = true
		}
		sum.add(info)
		return nil
	})
	if err != nil || !rest(0) {
		return nil
	}
	return sum
}

func dev(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Dev
	}
	return 0
}
