package crilog

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watcher tells of changes in directories. All readers share one, because the kernel allows each
// user only a small number of inotify instances (128 by default).
type watcher struct {
	mu   sync.Mutex
	file *os.File // nil: the kernel gave none, nothing is told
	fd   int      // of file: asking file for it would make reads block for good
	dirs map[int32]map[chan struct{}]bool
	done chan struct{}
}

func newWatcher() *watcher {
	w := &watcher{dirs: map[int32]map[chan struct{}]bool{}, done: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		close(w.done)
		return w
	}
	w.fd, w.file = fd, os.NewFile(uintptr(fd), "inotify")
	go w.run(w.file)
	return w
}

// mask is what a follower of a log wants to know of its directory.
const mask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_CLOSE_WRITE

// watch tells of changes in a directory by a channel of capacity one, until stop is called. A nil
// channel, which never tells, means that the kernel would not watch.
func (w *watcher) watch(dir string) (news <-chan struct{}, stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil, func() {}
	}
	id, err := unix.InotifyAddWatch(w.fd, dir, mask)
	if err != nil {
		return nil, func() {}
	}
	wd := int32(id)
	if w.dirs[wd] == nil {
		w.dirs[wd] = map[chan struct{}]bool{}
	}
	c := make(chan struct{}, 1)
	w.dirs[wd][c] = true
	return c, func() { w.forget(wd, c) }
}

func (w *watcher) forget(wd int32, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.dirs[wd], c)
	if len(w.dirs[wd]) == 0 {
		delete(w.dirs, wd)
		if w.file != nil {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd)) // fails when the directory is gone, which is as well
		}
	}
}

// run hands events on until the file is closed. What exactly happened is of no interest.
func (w *watcher) run(f *os.File) {
	defer close(w.done)
	buf := make([]byte, 16<<10)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(b))
			size := int(binary.NativeEndian.Uint32(b[12:]))
			b = b[min(len(b), unix.SizeofInotifyEvent+size):]
			w.tell(wd)
		}
	}
}

// tell wakes those who watch a directory; after an overflow (-1) all.
func (w *watcher) tell(wd int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, all := range w.dirs {
		if id != wd && wd >= 0 {
			continue
		}
		for c := range all {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

func (w *watcher) close() error {
	w.mu.Lock()
	f := w.file
	w.file = nil
	w.mu.Unlock()
	if f == nil {
		return nil
	}
	err := f.Close()
	<-w.done
	return err
}
