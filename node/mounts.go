package node

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// mountsBelow lists the mount points at and below some directories.
func mountsBelow(dirs ...string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 5 { // the fifth is the mount point, see proc_pid_mountinfo(5)
			continue
		}
		for _, dir := range dirs {
			if fields[4] == dir || strings.HasPrefix(fields[4], dir+"/") {
				out = append(out, "mount "+fields[4])
			}
		}
	}
	return out, nil
}

func isNotEmpty(err error) bool {
	return errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EBUSY)
}
