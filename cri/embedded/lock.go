package embedded

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockWait lets a predecessor that is being stopped finish.
const lockWait = 2 * time.Second

// lockRoot makes sure that this process is the only one on root. Without it containerd would wait
// for ever for its databases.
func lockRoot(root string) (*os.File, error) {
	path := filepath.Join(root, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock containerd's root directory: %w", err)
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(20 * time.Millisecond) {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
	}
	if err == nil {
		return file, nil
	}
	holder := lockHolder(file)
	_ = file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock containerd's root directory %s: it is in use%s: stop that process, or choose another data directory", root, holder)
	}
	return nil, fmt.Errorf("lock containerd's root directory %s: %w", root, err)
}

// lockHolder says who holds the lock on file, if /proc/locks tells:
//
//	3: FLOCK  ADVISORY  WRITE 4711 fe:00:131090 0 EOF
func lockHolder(file *os.File) string {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return ""
	}
	inode := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return ""
	}
	defer func() { _ = locks.Close() }()
	for scanner := bufio.NewScanner(locks); scanner.Scan(); {
		fields := strings.Fields(scanner.Text())
		if len(fields) >= 6 && fields[1] == "FLOCK" && fields[5] == inode {
			comm, _ := os.ReadFile("/proc/" + fields[4] + "/comm")
			return fmt.Sprintf(" by process %s (%s)", fields[4], strings.TrimSpace(string(comm)))
		}
	}
	return ""
}
