package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// alone keeps a second run from ending the lab of this one, until it is closed. It ends with the process and
// leaves nothing behind.
func alone(lab string) (io.Closer, error) {
	hold, err := net.Listen("unix", "@nodelet-conformance-"+lab)
	if err != nil {
		return nil, fmt.Errorf("use lab %s: another run has it (%w): wait for it, or give this one another -lab and -reports", lab, err)
	}
	return hold, nil
}

// lock lets one run at a time build what is kept in the cache; the later ones find it made.
func (o options) lock() (io.Closer, error) {
	if err := os.MkdirAll(o.cache, 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(o.cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock cache: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock cache: %w", err)
	}
	return f, nil
}
