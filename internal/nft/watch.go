package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watch calls changed after somebody else's transaction in the namespace it
// was started in, until ctx ends. Changes made by this process are left out.
// It says "look again" and nothing more; after a lost notification as well.
func Watch(ctx context.Context, changed func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("watch nf_tables: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("watch nf_tables: bind: %w", err)
	}
	// An os.File on a non-blocking descriptor waits in the runtime's poller, so Close ends a Read.
	f := os.NewFile(uintptr(fd), "nf_tables")
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer func() {
		if stop() {
			_ = f.Close()
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("watch nf_tables: %w", err)
		}
		if err != nil || foreign(buf[:n]) {
			changed()
		}
	}
}

// foreign tells whether the end of a transaction is among the messages, and
// not this process has made it. Every transaction ends with its generation.
func foreign(messages []byte) (yes bool) {
	eachMessage(messages, func(m reply) {
		if m.typ != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN || len(m.body) < 4 {
			return
		}
		attrs(m.body[4:], func(typ uint16, v []byte) {
			if typ == unix.NFTA_GEN_PROC_PID && len(v) == 4 {
				yes = yes || !ownThread(binary.BigEndian.Uint32(v))
			}
		})
	})
	return yes
}

// ownThread: what the kernel calls a pid there is the number of a thread. In
// another pid namespace the number means nothing, and counts as foreign.
func ownThread(tid uint32) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
	return err == nil
}
