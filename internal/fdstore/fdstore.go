package fdstore

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstFD is where the service manager puts the first descriptor.
const firstFD = 3

// Store is the service manager's store of file descriptors. A nil *Store keeps nothing.
type Store struct {
	socket string
	kept   map[string][]*os.File
}

// Open takes what the manager passed to this process, and empties the
// environment of it, so that no child believes it is meant.
func Open() *Store {
	s := &Store{socket: os.Getenv("NOTIFY_SOCKET"), kept: map[string][]*os.File{}}
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(v) // cannot fail for a name without '='
	}
	n, err := strconv.Atoi(count)
	if pid != strconv.Itoa(os.Getpid()) || err != nil {
		return s
	}
	list := strings.Split(names, ":")
	for i := range n {
		fd := firstFD + i
		unix.CloseOnExec(fd)
		name := ""
		if i < len(list) {
			name = list[i]
		}
		s.kept[name] = append(s.kept[name], os.NewFile(uintptr(fd), name))
	}
	return s
}

// Take gives the descriptors that were kept under a name; they are the
// caller's then, while the manager goes on keeping its copies.
func (s *Store) Take(name string) []*os.File {
	if s == nil {
		return nil
	}
	files := s.kept[name]
	delete(s.kept, name)
	return files
}

// Names are those under which something was kept and not taken.
func (s *Store) Names() []string {
	if s == nil {
		return nil
	}
	var out []string
	for name := range s.kept {
		out = append(out, name)
	}
	return out
}

// Keep gives the manager a copy of a descriptor. Without a manager it does nothing.
func (s *Store) Keep(name string, fd uintptr) error {
	return s.notify("FDSTORE=1\nFDNAME="+name, unix.UnixRights(int(fd)))
}

// Drop lets the manager forget all descriptors of a name.
func (s *Store) Drop(name string) error {
	if s != nil {
		for _, f := range s.Take(name) {
			_ = f.Close()
		}
	}
	return s.notify("FDSTOREREMOVE=1\nFDNAME="+name, nil)
}

func (s *Store) notify(text string, rights []byte) error {
	if s == nil || s.socket == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("reach the service manager: %w", err)
	}
	err = unix.Sendmsg(fd, []byte(text), rights, &unix.SockaddrUnix{Name: s.socket}, unix.MSG_NOSIGNAL)
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("hand a descriptor to the service manager: %w", err)
	}
	return nil
}
