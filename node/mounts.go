package node

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// mountsBelow lists the mount points below some directories, not themselves:
// a data directory may be a disk of its own.
func mountsBelow(dirs ...string) ([]string, error) {
	points, err := mountPoints()
	var out []string
	for _, p := range points {
		for _, dir := range dirs {
			if strings.HasPrefix(p, dir+"/") {
				out = append(out, "mount "+p)
			}
		}
	}
	return out, err
}

// mountPoints lists all of this mount namespace.
func mountPoints() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		// The fifth field is the mount point, see proc_pid_mountinfo(5).
		if fields := strings.Fields(line); len(fields) > 4 {
			out = append(out, fields[4])
		}
	}
	return out, nil
}

func isNotEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EBUSY)
}
